"""Encoders: SentenceTransformers of stock modules, made from a spec, which load without sentemb.

``build(ENCODERS, "rnn:hidden=256", texts=..., max_length=...)`` makes one; :mod:`sentemb.forward` has its training
forward; :mod:`sentemb.encoders.loading` reads any checkpoint back. To add one: a function and a line.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import (
    LSTM,
    Dropout,
    Pooling,
    StaticEmbedding,
    Transformer,
    WeightedLayerPooling,
    WordEmbeddings,
)
from tokenizers import Tokenizer, processors
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from sentemb.encoders import layers as transformer_layers
from sentemb.encoders.distilled_table import DistillSettings, distilled_table
from sentemb.encoders.final_states import FinalStates
from sentemb.encoders.gru import GRU
from sentemb.encoders.identity_start import start_as_identity
from sentemb.encoders.loading import OFFLINE, fetched, refuse_missing_weights, why_not_of_hub
from sentemb.encoders.safety import refuse_unsafe
from sentemb.encoders.skip_pooling import SkipPooling
from sentemb.encoders.tokenizers import tokenizer_of
from sentemb.encoders.two_tower import Towers, towers_of
from sentemb.encoders.word_embeddings import (
    Texts,
    at_least_one,
    embedding_table,
    named_minilm,
    resolve_embeddings,
    sizes_of,
)
from sentemb.errors import InputError
from sentemb.registry import PathUnless, choose

ModelName = Annotated[str, PathUnless(("minilm",))]
EmbeddingsName = Annotated[str, PathUnless(("auto", "minilm", "random"))]
DISTILLED_DIM = 256  # dimensions of a table distilled from a teacher
# Of the stock Pooling. (One direction's final state is that of the last token.)
POOLINGS = {"mean": "mean", "max": "max", "last": "lasttoken", "final": "lasttoken", "cls": "cls", "first_last": "mean"}


def pooling_modes(pooling: str, valid: Iterable[str] = POOLINGS) -> Any:
    """The modes of the stock Pooling of a spec's ``pooling``: of one, or of several with ``+`` between them.

    Raises:
        ValueError, InputError: one is not ``valid``, or there twice.
    """
    modes = tuple(POOLINGS[choose("pooling", name, valid)] for name in pooling.split("+"))
    if len(set(modes)) < len(modes):
        raise ValueError(f"pooling={pooling} has one pooling twice; keep one of them")
    return modes


@dataclass(frozen=True)
class RnnSettings:
    """The options of :func:`rnn`.

    Args:
        cell: lstm, or gru (no stock module: such a checkpoint loads with ``sentemb.load``).
        hidden: units per direction and layer.
        layers: stacked layers.
        bidirectional: read both ways; the embedding has 2 * hidden dimensions then.
        pooling: mean, max, final (the states in which the directions of the top layer end: the forward one's at the
            last token, the backward one's at the first), or last (final of a one-directional encoder); several side by
            side with + between them, as in mean+max.
        skip: mean, max or mean+max: such a pooling of the word embeddings themselves, put in front of that of the
            states, so that a connection skips the recurrence (no stock module: such a checkpoint loads with
            ``sentemb.load``); empty: none.
        embeddings: minilm (MiniLM's 30,522 x 384 input table), random, a GloVe-style text file, or a model folder
            whose input table to take; auto is minilm where the ``minilm`` extra is installed, else random.
        train_embeddings: true, false, or auto: random ones are trained, pretrained and distilled ones are not.
        gain: the input weights' first values are multiplied by this. Pretrained tables have small numbers (MiniLM's a
            standard deviation of 0.056), which leave the gates all but linear; 10 to 20 brings them into their range.
        start: random, or identity: the forward units begin as a copy of the word embeddings (of their first ``hidden``
            principal components), so that an encoder begins with all that averaged embeddings hold, and stays plain.
        vocabulary: subwords to learn, with random embeddings (16,000); pretrained ones have their own.
        dim: dimensions of random embeddings (300), or of distilled ones (256).
        init_range: random embeddings begin uniform between -init_range and init_range; 0: normal, of variance 1 / dim.
        dropout: probability, of the embedding's numbers and between layers, in training.
        out: dimensions of the embedding, by a linear layer after pooling that is kept in the model; 0: none.

    Raises:
        ValueError, InputError: a value out of range.
    """

    cell: str = "lstm"
    hidden: int = 256
    layers: int = 1
    bidirectional: bool = True
    pooling: str = "mean"
    skip: str = ""
    embeddings: EmbeddingsName = "auto"
    train_embeddings: str = "auto"
    gain: float = 1.0
    start: str = "random"
    vocabulary: int | None = None
    dim: int | None = None
    init_range: float = 0.0
    dropout: float = 0.0
    out: int = 0

    def __post_init__(self) -> None:
        choose("cell", self.cell, ("lstm", "gru"))
        choose("start", self.start, ("random", "identity"))
        pooling_modes(self.pooling, ("mean", "max", "last", "final"))
        names = self.pooling.split("+")
        if self.bidirectional and "last" in names:
            raise ValueError(
                "pooling=last needs bidirectional=false: the backward half has seen one token there; choose final"
            )
        if self.bidirectional and "final" in names and len(names) > 1:
            raise ValueError("pooling=final stands alone where the encoder is bidirectional")
        if self.skip:
            pooling_modes(self.skip, ("mean", "max"))
            if self.bidirectional and "final" in names:
                raise ValueError("skip has no pooling=final of two directions next to it; choose pooling=mean+max")
        at_least_one(hidden=self.hidden, layers=self.layers)
        if not 0 < self.gain < 1e6:
            raise ValueError(f"gain must be a positive number, got {self.gain}")
        if not 0 <= self.init_range < 1e6:
            raise ValueError(f"init_range must be a number that is not negative, got {self.init_range}")


def rnn(
    texts: Texts,
    max_length: int,
    settings: RnnSettings = RnnSettings(),
    distillation: DistillSettings = DistillSettings(),
) -> SentenceTransformer:
    """A recurrent encoder: word embeddings, LSTM or GRU, pooling.

    Args:
        texts: gives the sentences a random-embedding encoder learns its subword vocabulary from.
        max_length: longest input in tokens; longer ones are cut.
        settings: a spec's options.
        distillation: more of them, for a table distilled from a teacher.

    Raises:
        ValueError, InputError: a value out of range or embeddings that cannot be read.
    """
    table = _word_table(texts, settings.embeddings, settings.vocabulary, settings.dim, distillation)
    words = _word_embeddings(table, max_length, settings.train_embeddings)
    if settings.init_range:
        if not table.is_random:
            raise ValueError("init_range is for embeddings=random; leave it out")
        nn.init.uniform_(words.emb_layer.weight, -settings.init_range, settings.init_range)
    skipping = pooling_modes(settings.skip) if settings.skip else ()
    modes = pooling_modes(settings.pooling)
    if "max" in modes + skipping:  # an empty sentence has no maximum: every sentence gets one token more
        _prefix_with_cls(cast(Any, words.tokenizer).tokenizer.backend_tokenizer)
    module = LSTM if settings.cell == "lstm" else GRU
    between = _probability(settings.dropout) if settings.layers > 1 else 0.0
    width = words.get_embedding_dimension()
    recurrent = module(width, settings.hidden, settings.layers, between, settings.bidirectional)
    with torch.no_grad():
        for name, weight in recurrent.encoder.named_parameters():
            if name.startswith("weight_ih_l0"):
                weight.mul_(settings.gain)
    if settings.start == "identity":
        start_as_identity(recurrent, words.emb_layer.weight, settings.gain)
    states = recurrent.get_embedding_dimension()
    before = [Pooling(width, skipping)] if skipping else []
    if settings.bidirectional and settings.pooling == "final":
        pooled: FinalStates | Pooling = FinalStates(states)
    elif skipping:
        pooled = SkipPooling(states, modes, skip_dimension=len(skipping) * width)
    else:
        pooled = Pooling(states, modes)
    linear = _linear(pooled.get_embedding_dimension(), settings.out)
    return _assemble(words, *before, recurrent, pooled, *linear, *_dropout(settings.dropout))


def static(
    texts: Texts,
    max_length: int,
    embeddings: EmbeddingsName = "auto",
    vocabulary: int | None = None,
    dim: int | None = None,
    dropout: float = 0.0,
    out: int = 0,
    distillation: DistillSettings = DistillSettings(),
) -> SentenceTransformer:
    """Averaged embeddings: one vector a token, their mean a sentence. Always trained.

    Options as for :class:`RnnSettings` and :class:`sentemb.encoders.distilled_table.DistillSettings`.
    """
    table = _word_table(texts, embeddings, vocabulary, dim, distillation)
    table.tokenizer.enable_truncation(max_length)  # kept in tokenizer.json, so that encode() cuts as training does
    layer = _linear(table.weights.shape[1], out)
    return _assemble(StaticEmbedding(table.tokenizer, embedding_weights=table.weights), *layer, *_dropout(dropout))


def transformer(
    max_length: int,
    name: ModelName = "minilm",
    revision: str = "",
    pooling: str = "mean",
    dropout: float = -1.0,
    mlp: bool = False,
    out: int = 0,
    keep_layers: str = "",
) -> SentenceTransformer:
    """A pretrained transformer with pooling on top.

    Args:
        max_length: longest input in tokens, special ones included; longer ones are cut.
        name: a hub name, a local folder, or minilm (all-MiniLM-L6-v2 from the ``minilm`` extra, offline; a folder of
            that name is written ./minilm).
        revision: of a hub model: branch, tag or commit; by default the commit we have pinned, else the newest.
        pooling: mean, cls, max or last (the last token); several side by side with + between them, as in cls+mean.
            Or first_last: the mean over tokens of the states of the first and of the last layer
            (:func:`sentemb.encoders.layers.first_and_last`).
        dropout: probability in training, of all its dropout layers; -1 leaves the model's own (0.1 in most).
        mlp: a dense layer with tanh after pooling, kept in the checkpoint (supervised SimCSE; for one that is left out
            after training see ``sentemb.encoders.heads``).
        out: as for :class:`RnnSettings`.
        keep_layers: of these layers only, ``A-B`` or ``A+B+C``, numbered from 1 as in ``--teacher layers=``: a student
            with the word embeddings and some of the layers of a larger model, as in keep_layers=1-3.

    Raises:
        ValueError, InputError: the model cannot be loaded, or has no dropout to set or no such layers.
    """
    first_last = transformer_layers.FIRST_LAST
    if first_last in pooling.split("+") and pooling != first_last:
        raise ValueError(f"pooling={pooling} joins {first_last} to others; choose {first_last} alone, or the others")
    modes = pooling_modes(pooling, ("mean", "cls", "max", "last", first_last))
    folder = named_minilm() if name == "minilm" else Path(name).expanduser()
    safe: dict[str, Any] = {"trust_remote_code": False}  # (left out, transformers asks on the terminal)
    if revision and folder.exists():
        raise InputError(f"revision={revision} is for hub names, and {name} is a folder here; leave it out")
    try:
        folder = folder if folder.exists() else fetched(name, revision)
        refuse_unsafe(folder)
        module = Transformer(
            str(folder),
            max_seq_length=max_length,
            model_kwargs=safe | {"use_safetensors": True},
            processor_kwargs=dict(safe),
            config_kwargs=dict(safe),
        )
    except InputError:
        raise
    except Exception as error:  # of the network, of files, of tokenizers: each library has its own
        raise InputError(f"no transformer {name!r} here or on the hub ({why_not_of_hub(error)}); {OFFLINE}") from error
    refuse_missing_weights(module, folder)
    if keep_layers:
        transformer_layers.keep_layers(module, keep_layers)
    config: Any = module.auto_model.config
    positions = getattr(config, "max_position_embeddings", None)
    if positions and "roberta" in config.model_type:  # it counts them from after its padding token
        positions -= config.pad_token_id + 1
    if positions and max_length > positions:
        raise ValueError(f"max-length {max_length} is more than the {positions} positions of {name}")
    freeze_unused([module])
    if dropout != -1:
        set_dropout(module, _probability(dropout))
    layers = []
    if pooling == first_last:
        numbers = transformer_layers.first_and_last(int(config.num_hidden_layers))
        layers = [transformer_layers.mean_of_layers(module, numbers)]
    pooled = Pooling(module.get_embedding_dimension(), modes)
    width = pooled.get_embedding_dimension()
    dense = [Dense(width, width, activation_function=nn.Tanh())] if mlp else []
    return _assemble(module, *layers, pooled, *dense, *_linear(width, out))


ENCODERS: dict[str, Callable[..., SentenceTransformer]] = {"rnn": rnn, "static": static, "transformer": transformer}


def two_towers(f: SentenceTransformer, g: SentenceTransformer) -> SentenceTransformer:
    """Two encoders as one model, whose embedding is [f; g] (:class:`sentemb.two_towers.Towers`).

    Raises:
        InputError: they have not the same tokenizer.
    """
    if tokenizer_of(f).to_str() != tokenizer_of(g).to_str():
        raise InputError("two encoders side by side need one tokenizer; give both the same word embeddings or model")
    return _assemble(Towers(f, g))


def freeze_unused(model: Iterable[nn.Module]) -> None:
    """Freeze weights that nothing uses here, such as BERT's own pooler, and what a pooling weighs layers by."""
    for module in (module for top in model for module in top.modules()):
        if isinstance(module, WeightedLayerPooling):
            module.requires_grad_(False)
        if isinstance(module, Transformer):
            for name, weight in module.auto_model.named_parameters():
                if name.startswith("pooler."):
                    weight.requires_grad_(False)


def set_dropout(module: Transformer, p: float) -> None:
    """Set every dropout probability of a transformer, in its layers and in the config that is saved.

    Raises:
        InputError: it has none.
    """
    model: Any = module.auto_model
    layers = [m for m in model.modules() if isinstance(m, nn.Dropout)]
    for layer in layers:
        layer.p = p
    owners = [m for m in model.modules() if isinstance(getattr(m, "attention_dropout", None), float)]
    for owner in owners:
        owner.attention_dropout = p
    if not layers and not owners:
        raise InputError(f"{type(model).__name__} has no dropout layer; leave dropout out")
    for name in ("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if isinstance(getattr(model.config, name, None), float | int):
            setattr(model.config, name, p)


def has_dropout(model: nn.Module) -> bool:
    """Whether two training forwards of one sentence can differ."""
    return any(
        (isinstance(m, nn.Dropout) and m.p > 0)
        or (isinstance(m, nn.LSTM | nn.GRU) and float(m.dropout) > 0 and m.num_layers > 1)
        or (isinstance(p := getattr(m, "attention_dropout", None), float) and p > 0)
        for m in model.modules()
    )


def _probability(p: float) -> float:
    if not 0 <= p < 1:
        raise ValueError(f"dropout must lie in [0, 1), got {p}")
    return p


def _dropout(p: float) -> list[nn.Module]:
    return [Dropout(p)] if _probability(p) else []


def _linear(width: int, out: int) -> list[nn.Module]:
    if out < 0:
        raise ValueError(f"out must be at least 1, or 0 for no layer, got {out}")
    return [Dense(width, out, activation_function=nn.Identity())] if out else []


@dataclass(frozen=True)
class _WordTable:
    """A tokenizer without special tokens and its table ``[vocabulary, dim]``; whether these are random numbers."""

    tokenizer: Tokenizer
    weights: Tensor
    is_random: bool


def _word_table(
    texts: Texts, embeddings: str, vocabulary: int | None, dim: int | None, distillation: DistillSettings
) -> _WordTable:
    """The table that a spec's options ask for.

    Raises:
        ValueError, InputError: options that exclude each other, a value out of range, or a table that is not available.
    """
    if not distillation.distill:
        sizes = sizes_of(embeddings, vocabulary, dim)
        return _WordTable(*embedding_table(texts, embeddings, *sizes), resolve_embeddings(embeddings) == "random")
    if embeddings != "auto":
        raise ValueError(
            f"distill={distillation.distill} makes the table of word embeddings, and so does embeddings={embeddings}; "
            "keep one of them"
        )
    if vocabulary is not None:
        raise ValueError(f"vocabulary={vocabulary} is for embeddings=random, and a distilled table has its teacher's")
    return _WordTable(*distilled_table(texts, distillation, DISTILLED_DIM if dim is None else dim), is_random=False)


def _word_embeddings(table: _WordTable, max_length: int, train: str) -> WordEmbeddings:
    """The stock WordEmbeddings module with a Rust tokenizer; ``train`` as ``train_embeddings`` of :func:`rnn`."""
    choose("train_embeddings", train, ("auto", "true", "false"))
    trained = train == "true" or (train == "auto" and table.is_random)
    vocabulary = table.tokenizer.get_vocab()
    names = {
        kind: next(name for name in names if name in vocabulary)
        for kind, names in {"unk_token": ("[UNK]", "<unk>"), "pad_token": ("[PAD]", "<pad>")}.items()
        if vocabulary.keys() & names  # (one that is not there would get an id after the table)
    }
    wrapped = PreTrainedTokenizerFast(tokenizer_object=table.tokenizer, **names)
    return WordEmbeddings(wrapped, table.weights, update_embeddings=trained, max_seq_length=max_length)


def mean_of_word_embeddings(model: SentenceTransformer) -> SentenceTransformer:
    """The baseline of an encoder: the mean of its own input embeddings, as they are now, and nothing else."""
    model = towers_of(model)[0]
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
