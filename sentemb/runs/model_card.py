"""The model card of a checkpoint: README.md with what it is, how it loads, what it scored, and how it was trained.

Its head is the metadata that model hubs read (huggingface_hub's ModelCardData), so that a folder can be uploaded as it
is. It is not a part of a checkpoint's manifest: people may edit it.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sentemb.errors import InputError, in_a_line
from sentemb.runs.folder import MODULES, ROUTER
from sentemb.runs.prefixes import prefixes_of
from sentemb.runs.records import as_dict, number, plain
from sentemb.storage import write_text

STOCK = """from sentence_transformers import SentenceTransformer

model = SentenceTransformer(PATH)  # this folder, or its name on the hub"""
SENTEMB_LOADING = """import sentemb  # {} no module of sentence-transformers

model = sentemb.load(PATH)  # this folder
# or, where sentemb is installed: SentenceTransformer(PATH, trust_remote_code=True)"""
ROUTED = (
    "The folder `router` holds the same two encoders for use without sentemb: with "
    "`router = SentenceTransformer(PATH + '/router')`, `router.encode_query` is f and `router.encode_document` is g."
)
TAGS = ["sentence-transformers", "sentence-similarity", "feature-extraction", "sentemb"]
SEARCH = "search "  # what the names of scores of search begin with
GEOMETRY = {
    "alignment": ("alignment loss of positive pairs (mean squared distance)", 4),
    "uniformity": ("uniformity loss (nats, t = 2)", 4),
    "uniformity_optimum": ("... the least possible in these dimensions", 4),
    "effective_rank": ("effective rank", 1),
    "mean_cosine": ("mean cosine of two sentences", 4),
    "retrieval_mrr": ("MRR of a sentence's positive", 4),
    "retrieval_recall_at_1": ("recall at 1", 4),
    "tolerance": ("tolerance (mean cosine within a class)", 4),
}


def write_card(
    folder: Path,
    config: Mapping[str, Any],
    trained: str,
    result: Mapping[str, Any] | None = None,
    differences: Sequence[Mapping[str, Any]] = (),
    prefixes: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write ``folder``/README.md.

    Args:
        folder: a saved model. config: what the run's config.json holds (or the part of it that there is).
        trained: how much it was trained, in words. result: of :func:`eval.scorer.score_model`, or scores by name.
        differences: from one other encoder, rows of :func:`sentemb.validation.compare_encoders`.
        prefixes: results as ``result`` of the model whose embeddings are cut, each with its ``dimension``.
    """
    from huggingface_hub import ModelCardData  # a third of a second to import

    settings, corpus = as_dict(config.get("settings")), as_dict(config.get("corpus"))
    tasks, geometry = _tasks(result or {}), as_dict((result or {}).get("geometry")) or dict(result or {})
    name = plain(corpus.get("name", settings.get("corpus", "a corpus")))
    parts = [f"# Sentence encoder, trained with sentemb\n\nTrained for {trained} on {name}; positive pairs: "]
    parts[0] += (
        f"{plain(settings.get('pairs', 'unknown'))}; objective: `{plain(settings.get('objective', 'unknown'))}`."
    )
    if as_dict(config.get("encoder")).get("dimension"):
        parts[0] += f" Embeddings have {config['encoder']['dimension']} dimensions."
    parts.append(f"## Use\n\n```python\n{_loading(folder)}\nmodel.encode(['A sentence.'])\n```")
    if (folder / ROUTER / MODULES).is_file():
        parts.append(ROUTED)
    parts += [_prompts(folder), _cutting(folder, prefixes_of(config))]
    if tasks or any(key in geometry for key in GEOMETRY):
        parts.append("## Results\n\n" + _results(tasks, geometry, as_dict((result or {}).get("search"))))
    if prefixes:
        parts.append(_of_prefixes([*prefixes, result or {}]))
    if differences:
        parts.append(_compared(differences))
    lines = [f"- {key.replace('_', '-')}: {_code(value)}" for key, value in settings.items() if value is not None]
    parts.append("## Settings\n\n" + "\n".join(lines))
    if config.get("command"):
        parts.append(f"Begun with {_code(plain(config['command']))}.")
    versions = ", ".join(f"{key} {value}" for key, value in as_dict(config.get("versions")).items())
    parts.append(f"Versions: {versions}." if versions else "")
    data = ModelCardData(
        library_name="sentence-transformers" if is_stock(folder) else None,
        pipeline_tag="sentence-similarity",
        tags=TAGS if is_stock(folder) else TAGS[1:],
        model_name=f"sentemb: {plain(settings.get('objective', 'encoder'))}" if tasks else None,
        eval_results=[_listed(task, metric, value) for task, metric, value, _ in tasks] or None,
    )
    text = "\n\n".join([f"---\n{data.to_yaml()}\n---", *filter(None, parts)])
    write_text(folder / "README.md", text + "\n")
    return folder / "README.md"


def _loading(folder: Path) -> str:
    if is_stock(folder):
        return STOCK
    if (folder / "f").is_dir():
        return SENTEMB_LOADING.format("two encoders, f and g, are")
    if any(folder.glob("*_GRU")):
        return SENTEMB_LOADING.format("its GRU is")
    skips = any(folder.glob("*_SkipPooling"))
    return SENTEMB_LOADING.format(
        "its pooling with a skip connection is" if skips else "its pooling by final states is"
    )


def _prompts(folder: Path) -> str:
    """What the model puts before texts, as it was trained; empty for nothing."""
    if (folder / "f").is_dir():
        of_f, of_g = (_named(folder / name)[1] for name in "fg")
        if not of_f and not of_g:
            return ""
        return f"f puts the prompt {_code(of_f)} before each text, and g {_code(of_g)}, as in training."
    prompts, default = _named(folder)
    anchor, positive = (prompts.get(side) for side in ("anchor", "positive"))
    if anchor is not None and positive is not None and anchor != positive:
        return (
            f"It was trained with {_code(anchor)} before first texts (anchors) and {_code(positive)} before second "
            "ones (positives): `encode(texts, prompt_name='query')` and `encode(texts, prompt_name='document')`; "
            f"`encode` alone puts {_code(default)} before each."
        )
    return f"`encode` puts the prompt {_code(default)} before each text, as training did." if default else ""


def _cutting(folder: Path, sizes: Sequence[int]) -> str:
    """To which lengths embeddings can be cut, and how; empty where the model was not trained for that."""
    if not sizes:
        return ""
    *most, last = map(str, sizes)
    named = f"{', '.join(most)} or {last}" if most else last
    call, whose = f"model.encode(texts, truncate_dim={sizes[0]})", "an embedding"
    if (folder / "f").is_dir():
        call, whose = f"model[0].f.encode(texts, truncate_dim={sizes[0]})`, and the same of `model[0].g", "f and of g"
    elif is_stock(folder):
        call += f"`, or `SentenceTransformer(PATH, truncate_dim={sizes[0]})"
    return (
        f"It was trained so that the first {named} dimensions of {whose} are an embedding, too (Matryoshka, Kusupati "
        f"et al. 2022, arXiv 2205.13147): `{call}`."
    )


def _of_prefixes(results: Sequence[Mapping[str, Any]]) -> str:
    """Scores by length as a table."""
    columns: dict[str, list[str]] = {"dimensions": [plain(result.get("dimension", "all")) for result in results]}
    for place, result in enumerate(results):
        geometry = as_dict(result.get("geometry"))
        values = {f"{task}, {metric} x 100": f"{value:.2f}" for task, metric, value, _ in _tasks(result)}
        for key in ("alignment", "uniformity", "retrieval_mrr"):
            if math.isfinite(value := number(geometry.get(key))):
                values[GEOMETRY[key][0]] = f"{value:.4f}"
        for name, text in values.items():
            columns.setdefault(name, ["-"] * len(results))[place] = text
    head, rule = " | ".join(map(_cell, columns)), "|".join(["---:"] * len(columns))
    lines = [f"| {' | '.join(cells)} |" for cells in zip(*columns.values(), strict=True)]
    return "\n".join(["By the dimensions that are left:", "", f"| {head} |", f"|{rule}|", *lines])


def _named(folder: Path) -> tuple[dict[str, Any], str]:
    """The prompts of a saved model, by name, and its default one."""
    try:
        config = as_dict(json.loads((folder / "config_sentence_transformers.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}, ""
    prompts = as_dict(config.get("prompts"))
    return prompts, plain(prompts.get(str(config.get("default_prompt_name"))) or "")


def _tasks(result: Mapping[str, Any]) -> list[tuple[str, str, float, str]]:
    """Task, metric, value and protocol of each that was scored."""
    task_scores = []
    for task, row in as_dict(result.get("tasks")).items():
        for key, metric in (("acc", "accuracy"), ("spearman", "spearman"), ("pearson", "pearson")):
            if math.isfinite(value := number(as_dict(row).get(key))):
                task_scores.append((str(task), metric, round(value, 2), plain(as_dict(row).get("protocol", ""))))
                break
    return task_scores


def _results(tasks: list[tuple[str, str, float, str]], geometry: Mapping[str, Any], search: Mapping[str, Any]) -> str:
    lines = ["| what | value | how |", "|---|---|---|"]
    lines += [f"| {task}, {metric} x 100 | {value:.2f} | {_cell(how)} |" for task, metric, value, how in tasks]
    searched = _cell(plain(search.get("task", "")))
    lines += [f"| {SEARCH}{name} | {number(v):.4f} | {searched} |" for name, v in as_dict(search.get("scores")).items()]
    source = _cell(plain(geometry.get("source", "held-out pairs")))
    for key, (title, digits) in GEOMETRY.items():
        if math.isfinite(value := number(geometry.get(key))):
            lines.append(f"| {title} | {value:.{digits}f} | {source} |")
    lines += ["", "Alignment and uniformity: Wang & Isola 2020, arXiv 2005.10242; tasks: SentEval's protocol."]
    return "\n".join(lines)


def _compared(differences: Sequence[Mapping[str, Any]]) -> str:
    """The differences as a table; what is better beyond chance is bold."""
    against, level = _cell(plain(differences[0]["against"])), f"{differences[0]['level']:.0%}"
    lines = [
        f"Against {against}, with which training began (better and worse: the bootstrap interval leaves out 0):",
        "",
        f"| score | difference | {level} interval | verdict | of |",
        "|---|---:|---|---|---|",
    ]
    for row in differences:
        title = _cell(GEOMETRY.get(row["measure"], (row["measure"], 0))[0])
        digits = 4 if row["measure"] in GEOMETRY or row["measure"].startswith(SEARCH) else 2
        verdict = "**better**" if row["verdict"] == "better" else row["verdict"]
        interval = f"{row['low']:+.{digits}f} to {row['high']:+.{digits}f}"
        of = f"{row['n']:,} {row['items']}"
        if row["drawn"] != row["items"]:
            of += f" of {row['units']:,} {row['drawn']}"
        elif row.get("documents"):
            of += f" of {row['documents']} document{'s' if row['documents'] > 1 else ''}"
        lines.append(f"| {title} | {row['difference']:+.{digits}f} | {interval} | {verdict} | {of} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def _code(value: object) -> str:
    """As code in Markdown, whatever is in it; spaces at its ends stay."""
    text = re.sub(r"\s+", " ", str(value))
    if not text:
        return "nothing"
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def _listed(task: str, metric: str, value: float) -> Any:
    """The result as huggingface_hub's EvalResult."""
    from huggingface_hub import EvalResult

    kind = "text-classification" if metric == "accuracy" else "sentence-similarity"
    return EvalResult(
        task_type=kind,
        dataset_type=f"senteval-{task.lower()}",
        dataset_name=f"SentEval {task}",
        metric_type=metric,
        metric_value=value,
    )


def is_stock(folder: Path) -> bool:
    """Whether a model folder has no module of sentemb, so that sentence-transformers alone can load it.

    Raises:
        InputError: its modules.json cannot be read.
    """
    try:
        rows = json.loads((folder / MODULES).read_text(encoding="utf-8"))
        return not any(row["type"].startswith("sentemb.") for row in rows)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / MODULES} cannot be read ({in_a_line(error)}); copy it again") from None
