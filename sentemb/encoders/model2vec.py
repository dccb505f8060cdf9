"""Averaged word embeddings in model2vec's folders: one table of a byte or two a number, read by three libraries.

The layout is that of model2vec 0.10 (``model2vec/persistence``, ``StaticModel``): ``config.json``; ``tokenizer.json``;
``model.safetensors`` with ``embeddings`` [rows, d], and where they are needed ``weights`` [tokens], a factor for each
token's row, and ``mapping`` [tokens], which row a token has. ``modules.json`` lets sentence-transformers read it, too.
"""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import safe_open
from safetensors.torch import save
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense, Normalize
from sentence_transformers.sentence_transformer.modules import Dropout, StaticEmbedding
from tokenizers import Tokenizer
from torch import Tensor, nn

from sentemb.encoders.safety import read_json
from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.runs import MODULES
from sentemb.storage import write_bytes, write_folder, write_text

Precision = Literal["float32", "float16", "int8"]
PRECISIONS: dict[str, torch.dtype] = {"float32": torch.float32, "float16": torch.float16, "int8": torch.int8}
WEIGHTS, TOKENIZER, CONFIG = "model.safetensors", "tokenizer.json", "config.json"
TABLE = "embeddings"  # its name among the weights; sentence-transformers' is embedding.weight
NAMES = ("StaticEmbedding", "Normalize")  # by the places that every version of sentence-transformers has
ROWS = [
    {"idx": i, "name": str(i), "path": "." if i == 0 else f"{i}_{name}", "type": f"sentence_transformers.models.{name}"}
    for i, name in enumerate(NAMES)
]
CARD = """---
library_name: model2vec
pipeline_tag: sentence-similarity
tags: [model2vec, sentence-transformers, static-embeddings, sentemb]
---

# Static sentence encoder

The mean of a text's word embeddings: {tokens:,} tokens, {dimension} dimensions, stored as {precision}.
PATH is this folder.

```python
from sentence_transformers import SentenceTransformer  # 6.2 or newer where the numbers are int8

SentenceTransformer(PATH).encode(["A sentence."])
```

```python
from model2vec import StaticModel  # numpy alone, no torch

StaticModel.from_pretrained(PATH).encode(["A sentence."])
```
"""


def save_model2vec(model: SentenceTransformer, folder: str | Path, precision: Precision = "float16") -> None:
    """Write a static encoder as a folder that model2vec, sentence-transformers 6.2 and ``sentemb.load`` read.

    Linear layers become part of the table: the mean of the rows times a matrix, plus a bias, is the mean of what each
    row becomes by it. (A text without a token has zeros then, and not the bias.) ``int8`` has a scale for each row, its
    largest number over 127. model2vec leaves unknown words out of the mean, which the others count as the unknown
    token; and it cuts long texts after ``max_length`` times the median length of a token before it splits them.

    Args:
        model: a StaticEmbedding; after it linear layers, dropout, and at the end a Normalize.
        folder: a new one, or an empty one.
        precision: of the numbers of the table.

    Raises:
        InputError: another encoder, one with prompts, numbers that the precision cannot hold, or a folder in use.
    """
    dtype = PRECISIONS[choose("precision", precision, PRECISIONS)]
    refuse_existing(Path(folder))
    table, normalized = _table_of(model)
    tokenizer = Tokenizer.from_str(cast(Any, model[0]).tokenizer.to_str())
    table = table[: max(tokenizer.get_vocab().values(), default=0) + 1]
    tensors = _quantized(table, dtype)
    if dtype == torch.float16 and normalized:  # in float16 a text without a token would be 0 / 0
        tensors["weights"] = torch.ones(len(table))
    if tokenizer.get_vocab_size() != len(table):  # ids that no token has
        tensors["mapping"] = torch.arange(len(table))
    config = {
        "model_type": "model2vec",
        "architectures": ["StaticModel"],
        "hidden_dim": table.shape[1],
        "normalize": normalized,
        "max_length": tokenizer.truncation["max_length"] if tokenizer.truncation else None,
        "embedding_dtype": precision,
    }
    card = CARD.format(tokens=len(table), dimension=table.shape[1], precision=precision)

    def write(place: Path) -> None:
        write_bytes(place / WEIGHTS, save(tensors))  # (save_file makes a file that only its owner may read)
        tokenizer.save(str(place / TOKENIZER))
        write_text(place / CONFIG, json.dumps(config, indent=2) + "\n")
        write_text(place / MODULES, json.dumps(ROWS if normalized else ROWS[:1], indent=2) + "\n")
        write_text(place / "config_sentence_transformers.json", _similarity(model))
        write_text(place / "README.md", card)

    write_folder(Path(folder), write)


def refuse_existing(folder: Path) -> None:
    """InputError where a folder to be written is there already and is not an empty folder."""
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise InputError(f"{folder} is there already, and nothing is overwritten; give a new folder")


def _table_of(model: SentenceTransformer) -> tuple[Tensor, bool]:
    """A static encoder as one table ``[tokens, d]``, float32, and whether its embeddings get unit length."""
    first, *others = cast(list[Any], list(model))
    if not isinstance(first, StaticEmbedding):
        raise InputError(
            f"model2vec's format is for averaged word embeddings, and this encoder begins with {type(first).__name__}; "
            "train one with --encoder static"
        )
    if any(model.prompts.values()):
        raise InputError("model2vec has no prompts, and this encoder was trained with them; train one without")
    table, normalized = first.embedding.weight.detach().cpu().float(), False
    for module in others:
        if not normalized and _is_linear(module):
            with torch.no_grad():
                table = deepcopy(module).cpu().float()({"sentence_embedding": table})["sentence_embedding"]
        elif isinstance(module, Normalize):
            normalized = True
        elif not isinstance(module, Dropout):
            raise InputError(
                f"a table of word embeddings has no place for {module}; model2vec's format takes linear layers, and "
                "after them Normalize"
            )
    if model.truncate_dim and normalized:
        raise InputError("truncate_dim after Normalize has no place in model2vec's format; leave one of them out")
    return table[:, : model.truncate_dim], normalized


def _is_linear(module: Any) -> bool:
    return (
        isinstance(module, Dense)
        and isinstance(module.activation_function, nn.Identity)
        and module.module_input_name == module.module_output_name == "sentence_embedding"
    )


def _quantized(table: Tensor, dtype: torch.dtype) -> dict[str, Tensor]:
    """The table in a precision, and of int8 the scale of each row.

    Raises:
        InputError: a number is not finite, or too large for float16.
    """
    if not table.isfinite().all():
        raise InputError("a word embedding of this encoder is not finite; the checkpoint is damaged")
    if dtype != torch.int8:
        numbers = table.to(dtype)
        if not numbers.isfinite().all():
            raise InputError(f"float16 holds numbers up to 65,504, and a row has {table.abs().max():g}; choose float32")
        return {TABLE: numbers.contiguous()}
    scale = table.abs().amax(dim=1) / 127  # [tokens]
    numbers = (table / scale.clamp_min(1e-38)[:, None]).round().clamp(-127, 127)
    return {TABLE: numbers.to(torch.int8), "weights": scale}


def _similarity(model: SentenceTransformer) -> str:
    content = {"model_type": "SentenceTransformer", "similarity_fn_name": model.similarity_fn_name}
    return json.dumps(content | {"prompts": {}, "default_prompt_name": None}, indent=2) + "\n"


def is_model2vec(folder: Path, rows: list[dict[str, Any]]) -> bool:
    """Whether a model's folder, whose modules.json has these rows, holds weights as model2vec names them."""
    names = tuple(str(row["type"]).rpartition(".")[2] for row in rows)
    if names not in (NAMES, NAMES[:1]) or not (folder / WEIGHTS).is_file():
        return False
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        return TABLE in weights.keys()  # noqa: SIM118 (safe_open is not a mapping)


def model2vec_modules(folder: Path) -> list[nn.Module]:
    """The modules of a folder in model2vec's format, the table in float32 whatever its precision there."""
    with safe_open(folder / WEIGHTS, framework="pt") as weights:
        tensors = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118
    table = tensors[TABLE].float()
    if "mapping" in tensors:
        table = table[tensors["mapping"].long()]
    if "weights" in tensors:
        table = table * tensors["weights"].float()[:, None]
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    first = StaticEmbedding(tokenizer, embedding_weights=table)
    return [first, Normalize()] if read_json(folder / CONFIG).get("normalize") else [first]
