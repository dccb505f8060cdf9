"""Prints docs/api.md from signatures and docstrings: ``python -m tests.documentation.api_reference > docs/api.md``."""

import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from sentemb.pipeline import settings

HEAD = """# API

What a script imports, from the docstrings of the code. `python -m tests.documentation.api_reference` prints this page,
and a test keeps it equal to the code. [From Python](python.md) is the guide. [Objectives](objectives.md) lists losses.
"""
MODULES: dict[str, tuple[str, ...]] = {
    "sentemb": (
        *("train", "TrainedRun", "adapt", "AdaptedRun", "encode", "EncodedCorpus", "load", "open_corpus", "Corpus"),
        *("build", "InputError"),
    ),
    "sentemb.objectives": ("Objective", "Extras", "build_objective", "WeightedSum", "GuideMargin"),
    "sentemb.geometry": (
        *("alignment", "uniformity", "uniformity_optimum", "effective_rank", "mean_cosine", "tolerance", "retrieval"),
        *("l2_normalize", "nearest", "bootstrap_interval"),
    ),
    "sentemb.corpus": ("TextSource",),
    "sentemb.pairs": ("Pairs",),
    "sentemb.encoders": ("save_model2vec", "embedding_table", "tokenizer_of"),
    "sentemb.teacher": ("parse_teacher", "TeacherFolder", "embed_corpus"),
    "sentemb.training": ("fit", "fit_stacked", "TrainingData", "RunTarget", "TeacherArray", "Guide", "FitResult"),
    "eval": (
        *("evaluate", "score_model", "measure", "compare", "SentEvalEvaluator", "SE", "SearchEvaluator"),
        *("read_search_task", "measure_search", "compare_search", "search_dev_score", "stsb_dev_score"),
    ),
}
SETTINGS = (
    *("DataSettings", "EncoderSettings", "PairSettings", "ObjectiveSettings", "TrainingSettings"),
    *("ComputeSettings", "EvaluationSettings"),
)
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")


def page() -> str:
    """The text of docs/api.md."""
    parts = [HEAD, *_settings()]
    for module_name, names in MODULES.items():
        module = importlib.import_module(module_name)
        summary = _plain(inspect.getdoc(module) or "").split("\n")[0]
        parts.append(f"## {module_name}\n\n{summary}\n")
        for name in names:
            parts += _entry(name, getattr(module, name), "###")
    return "\n".join(parts)


def _settings() -> Iterator[str]:
    """The settings of a run, which are flags of the recipes and arguments of ``sentemb.train``."""
    yield "## Settings of sentemb.train and flags of the recipes\n"
    yield "`max_steps=500` in Python is `--max-steps 500` of a recipe. Recipes have [defaults](recipes.md#defaults).\n"
    for name in SETTINGS:
        kind = getattr(settings, name)
        rows = [
            (f"`{each.name}`", f"`{each.default}`", each.metadata["help"]) for each in fields(kind) if each.metadata
        ]
        yield f"**{_plain(kind.__doc__).splitlines()[0]}**\n\n{_table(('setting', 'default', 'meaning'), rows)}"


def _entry(name: str, thing: Any, level: str) -> Iterator[str]:
    """A function, or a class and its public methods: heading, signature, docstring."""
    yield f"{level} {name}\n"
    yield f"```text\n{name}{_signature(thing)}\n```\n"
    yield _docstring(inspect.getdoc(thing) or "")
    if not inspect.isclass(thing):
        return
    members = [(key, value) for key, value in vars(thing).items() if not key.startswith("_")]
    if is_dataclass(thing):
        documented = {each.name for each in fields(thing)}
        members = [(key, value) for key, value in members if key not in documented]
    rows = [
        (f"`{key}{'' if isinstance(value, property) else _signature(_function(value))}`", _first_line(value))
        for key, value in members
        if isinstance(value, property) or callable(_function(value))
    ]
    if rows:
        yield _table(("member", "what it is"), rows)


def _function(member: Any) -> Any:
    """What a class or static method wraps; another member as it is."""
    return getattr(member, "__func__", member)


def _first_line(member: Any) -> str:
    """The first paragraph of a member's docstring, as one line."""
    return " ".join(_plain(inspect.getdoc(_function(member)) or "").split("\n\n")[0].split())


def _signature(thing: Callable[..., Any]) -> str:
    """Parameters with types and defaults, names of types without their modules."""
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return ""  # (an exception of C has no signature)
    signature = inspect.signature(thing)
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls")]
    text = (
        str(signature.replace(parameters=parameters)).replace("'", "").replace('"', "").replace("-> None", "").strip()
    )
    short = re.sub(r"\b(?:[A-Za-z_]\w*\.)+([A-Za-z_]\w*)", r"\1", text)
    return re.sub(r"<factory>|<function (\w+)[^>]*>|<class (\w+)>", r"\1\2...", short)


def _plain(docstring: str) -> str:
    """Markdown of the little reStructuredText that docstrings have."""
    return re.sub(r":\w+:`~?([^`]*)`", r"`\1`", docstring).replace("``", "`")


def _docstring(docstring: str) -> str:
    """Paragraphs as they are, examples as code, and a table of each section."""
    pieces = re.split(rf"^({'|'.join(SECTIONS)}):\n", _plain(docstring), flags=re.MULTILINE)
    text = [re.sub(r"((?:^ {4}.*\n?)+)", _example, pieces[0].strip() + "\n", flags=re.MULTILINE)]
    for title, body in zip(pieces[1::2], pieces[2::2], strict=True):
        section, _, rest = body.partition("\n\n")
        if title in ("Returns", "Yields"):
            text.append(f"{title}: {' '.join(section.split())}\n")
        else:
            items = re.findall(r"^ {4}(\*{0,2}[\w.]+): ((?:.*\n?)(?: {5,}.*\n?)*)", section + "\n", re.MULTILINE)
            names = "error" if title == "Raises" else "argument"
            text.append(_table((names, "meaning"), [(f"`{key}`", " ".join(value.split())) for key, value in items]))
        if rest.strip():
            text.append(inspect.cleandoc(rest) + "\n")
    return "\n".join(text)


def _example(match: re.Match[str]) -> str:
    """An indented example as a block of code."""
    return f"```text\n{inspect.cleandoc(match[1])}\n```\n"


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    """A table in Markdown; ``|`` in a cell is escaped."""
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
