"""An encoder in ONNX: its graph, in float32 or quantized, next to its tokenizer; compared with the encoder itself."""

import json
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, StaticEmbedding, Transformer, WordEmbeddings
from tokenizers import Tokenizer

from sentemb.encoders import (
    GRAPH,
    ONNX,
    ONNX_INSTALL,
    ONNX_TOKENIZER,
    OnnxEncoder,
    folder_of_model,
    gives_unit_length,
    is_folder,
    load,
    refuse_existing,
    tokenizer_of,
    towers_of,
    write_onnx_config,
)
from sentemb.errors import InputError, in_a_line
from sentemb.export.comparison import Difference, megabytes, random_texts
from sentemb.export.graph import quiet, write_graph
from sentemb.runs import MODULES
from sentemb.storage import write_folder

PACKAGES = ("onnxscript", "onnx", "onnxruntime")
LARGEST_DIFFERENCE = 1e-4  # of a float32 graph's numbers, relative to the largest: more is another encoder
LENGTHS = tuple(range(1, 33)) * 31  # of the random texts that are compared, in tokens
ROWS = [{"idx": 0, "name": "0", "path": ONNX, "type": f"{OnnxEncoder.__module__}.{OnnxEncoder.__name__}"}]
CARD = """---
tags: [sentence-similarity, feature-extraction, onnx, sentemb]
---

# Sentence encoder in ONNX

{dimension} dimensions, {precision}; made of a model trained with sentemb. PATH is this folder.

```python
import sentemb  # with its extra onnx

sentemb.load(PATH).encode(["A sentence."])
```

Without sentemb and torch: `onnx/model.onnx` takes `input_ids` and `attention_mask`, both int64 [n, T], as
`onnx/tokenizer.json` (library tokenizers) makes them, and gives `sentence_embedding`, float32 [n, {dimension}].
"""


def export_onnx(checkpoint: str, out: Path | None, precision: str = "float32") -> list[str]:
    """Write an encoder's graph and tokenizer, read them again, and say how they differ and how fast they are.

    Args:
        checkpoint: as :func:`sentemb.encoders.load` takes it.
        out: a new folder; None: ``onnx/`` in the model's own folder.
        precision: float32, or int8: onnxruntime's dynamic quantization of the weights of tables, products and LSTMs.

    Raises:
        InputError: as :func:`sentemb.encoders.load`; a package of the extra is missing, the encoder has no form in
            ONNX, its graph computes something else, or the place is in use or cannot be written to.
    """
    if missing := [name for name in PACKAGES if find_spec(name) is None]:
        raise InputError(f"exporting to ONNX needs {missing[0]}, which is not installed; {ONNX_INSTALL}")
    if out is None and not is_folder(checkpoint):
        raise InputError(f"{checkpoint} is not a folder here, in which onnx/ could be written; give OUT, a new folder")
    folder = folder_of_model(checkpoint)
    place = folder / ONNX if out is None else out
    refuse_existing(place)
    model = load(folder, device="cpu").float()
    refuse_inexpressible(model, folder)
    lines: list[str] = []
    size = megabytes(folder) - megabytes(folder / ONNX)  # (an earlier export is not a part of the model)

    def write(partial: Path) -> None:
        inside = partial if out is None else partial / ONNX
        inside.mkdir(exist_ok=True)
        write_onnx(model, inside, precision)
        if out is not None:
            _describe(model, partial, precision)
        lines.extend(_compared(model, inside, precision))

    try:
        write_folder(place, write)
    except OSError as error:
        raise InputError(f"{place} cannot be written ({in_a_line(error)}); choose another place") from error
    about = (
        f"{place}: {model.get_embedding_dimension()} dimensions in {precision}, {megabytes(place):.1f} MB; "
        f"{folder} has {size:.1f} MB"
    )
    return [about, *lines]


def refuse_inexpressible(model: SentenceTransformer, folder: Path) -> None:
    """InputError where an encoder has no form in ONNX; ``folder`` is named in it."""
    if len(towers_of(model)) > 1:
        raise InputError(f"{folder} has two towers; export each by itself: {folder / 'f'} and {folder / 'g'}")
    first: Any = model[0]
    if isinstance(first, OnnxEncoder):
        raise InputError(f"{folder} is in ONNX already; give the model that it was made of")
    if not isinstance(first, StaticEmbedding | WordEmbeddings | Transformer):
        raise InputError(f"{folder} begins with {type(first).__name__}, which has no form in ONNX here; give another")
    if any(isinstance(part, Pooling) and not part.include_prompt for part in model) and any(model.prompts.values()):
        raise InputError(f"{folder} leaves its prompts out of pooling, which has no form in ONNX here; give another")


def write_onnx(model: SentenceTransformer, folder: Path, precision: str) -> None:
    """Write the graph, the tokenizer and the config of an encoder into a folder."""
    if precision == "int8":
        unquantized = folder / "float32.onnx"
        write_graph(model, unquantized)
        _quantize(unquantized, folder / GRAPH)
        for path in folder.glob(f"{unquantized.name}*"):
            path.unlink()
    else:
        write_graph(model, folder / GRAPH)
    _tokenizer(model).save(str(folder / ONNX_TOKENIZER))
    write_onnx_config(folder, int(model.get_embedding_dimension() or 0), precision, gives_unit_length(model))


def _quantize(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    large = any(source.parent.glob(f"{source.name}.*"))  # its weights are in a second file
    with quiet():
        quantize_dynamic(source, target, per_channel=True, weight_type=QuantType.QInt8, use_external_data_format=large)


def _tokenizer(model: SentenceTransformer) -> Tokenizer:
    """The tokenizer as ``encode`` uses it: it adds special tokens, cuts, and pads a batch's rows to the longest."""
    first: Any = model[0]
    made, number, sides = tokenizer_of(model), 0, {"padding_side": "right", "truncation_side": "right"}
    if isinstance(first, Transformer):
        number = getattr(first.tokenizer, "pad_token_id", None) or 0
        sides = {name: getattr(first.tokenizer, name, side) for name, side in sides.items()}
    if isinstance(first, StaticEmbedding):
        if first.tokenizer.truncation:
            made.enable_truncation(**first.tokenizer.truncation)
    elif model.max_seq_length and model.max_seq_length < 1_000_000:
        made.enable_truncation(int(model.max_seq_length), direction=sides["truncation_side"])
    made.enable_padding(pad_id=number, pad_token=made.id_to_token(number) or "[PAD]", direction=sides["padding_side"])
    return made


def _describe(model: SentenceTransformer, folder: Path, precision: str) -> None:
    """What makes a folder with ``onnx/`` in it one that ``sentemb.load`` takes for a model."""
    settings = {
        "model_type": "SentenceTransformer",
        "prompts": model.prompts,
        "default_prompt_name": model.default_prompt_name,
        "similarity_fn_name": model.similarity_fn_name,
        "truncate_dim": model.truncate_dim,
    }
    card = CARD.format(dimension=model.get_embedding_dimension(), precision=precision)
    texts = {
        MODULES: json.dumps(ROWS, indent=2) + "\n",
        "config_sentence_transformers.json": json.dumps(settings, indent=2) + "\n",
        "README.md": card,
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8")


def _compared(model: SentenceTransformer, folder: Path, precision: str) -> list[str]:
    """What is lost, and the speed of both.

    Raises:
        InputError: a float32 graph is another encoder.
    """
    exported = SentenceTransformer(
        modules=[OnnxEncoder(folder)],
        device="cpu",
        prompts={name: text or "" for name, text in model.prompts.items()},
        default_prompt_name=model.default_prompt_name,
        truncate_dim=model.truncate_dim,
    )
    longest = min(model.max_seq_length or 512, 512)  # (a text of more tokens than are read)
    texts = random_texts(model, (*LENGTHS, int(longest) + 8))
    difference = Difference.of(model, exported, ["", *texts])
    if precision == "float32" and not difference.greatest <= LARGEST_DIFFERENCE * max(1.0, difference.largest):
        raise InputError(f"this encoder's graph computes other embeddings than the encoder itself ({difference})")
    ours, theirs = (_texts_per_second(each, texts) for each in (exported, model))
    return [
        str(difference),
        f"{len(texts):,} texts of 1 to 32 tokens, {torch.get_num_threads()} threads: {ours:,.0f} a second by "
        f"onnxruntime, {theirs:,.0f} by PyTorch",
    ]


def _texts_per_second(model: SentenceTransformer, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    model.encode(list(texts), show_progress_bar=False)
    return len(texts) / (time.perf_counter() - start)
