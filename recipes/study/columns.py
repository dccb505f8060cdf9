"""The columns of a study's table that say what an encoder is, and in what it differs from the others."""

from typing import Any

from recipes.study.plan import DEFAULTS, EncoderSpec
from sentemb.registry import check, options_of, terms_of_sum

TERMS = ("contrastive", "align", "uniform")  # of objectives, each with a weight


def varied(encoders: list[EncoderSpec]) -> list[dict[str, Any]]:
    """For each encoder, what differs between the encoders of a study.

    These are the settings that are not the same for all, and the values of {names} in specs, by those names.
    """
    keys = [key for key in DEFAULTS if len({repr(encoder.settings[key]) for encoder in encoders}) > 1]
    names = list(dict.fromkeys(name for encoder in encoders for name in encoder.filled_in))
    return [
        {name: encoder.filled_in.get(name) for name in names} | {key: encoder.settings[key] for key in keys}
        for encoder in encoders
    ]


def with_varied(rows: list[dict[str, Any]], differing: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of a table, and what differs in each (see :func:`varied`), each once.

    A {name} that is also the name of a column with other values gets ``_varied`` after its name.
    """
    added: list[dict[str, Any]] = [{} for _ in rows]
    for name in dict.fromkeys(key for values in differing for key in values):
        pairs = [(row.get(name), values.get(name)) for row, values in zip(rows, differing, strict=True)]
        is_alike = all(a == b for a, b in pairs if a is not None and b is not None)
        if name in DEFAULTS and any(name in row for row in rows):
            continue
        for new, (present, value) in zip(added, pairs, strict=True):
            if not is_alike:
                new[f"{name}_varied"] = value
            else:
                new[name] = value if present is None else present
    return [row | new for row, new in zip(rows, added, strict=True)]


def described(planned: EncoderSpec) -> dict[str, Any]:
    """The columns of the table that say what an encoder is; None where a setting has no meaning for it."""
    from sentemb.objectives import OBJECTIVES  # torch, seconds

    settings = planned.settings
    parts = [part for part, _ in terms_of_sum(settings["objective"], "objective")]
    options: dict[str, Any] = {}  # of a sum of objectives none: each part has some of its own
    for part in parts:
        factory, spec_options = check(OBJECTIVES, part, "objective")
        options = {name: option.default for name, option in options_of(factory).items()} | spec_options
    options = options if len(parts) == 1 else {}
    name = " + ".join(part.partition(":")[0].strip() for part in parts)
    weights = dict.fromkeys(TERMS)
    if name == "mix":
        weights = {term: options[term] or None for term in TERMS}
    elif name == "align_uniform":
        weights |= {"align": options["align"], "uniform": options["weight"]}
    elif len(parts) == 1:
        weights["contrastive"] = 1.0
    contrastive = weights["contrastive"] is not None
    return {
        "name": planned.name,
        "family": planned.family,
        "reference": planned.reference,
        "trained": planned.trained,
        "objective": settings["objective"],
        "objective_name": name,
        "temperature": options.get("temperature") if contrastive else None,
        "alpha": options.get("alpha") if weights["align"] is not None else None,
        "t": options.get("t") if weights["uniform"] is not None else None,
        **weights,
        "encoder": settings["encoder"] if settings["init"] is None else settings["init"],
        **{key: settings[key] for key in ("towers", "head", "pairs", "batch_size", "lr", "seed")},
        "setting": planned.setting,
    }
