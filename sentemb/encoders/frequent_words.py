"""The words and phrases that a WordPiece vocabulary lacks and a text has most often, and the vocabulary with them."""

import json
import math
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer

from sentemb.encoders.word_embeddings import NamedTexts, Texts
from sentemb.errors import InputError
from sentemb.storage import build_once, cache_dir, key_of, write_text

LIMIT = 500_000  # entries of a count: some 100 MB; then the rarest are dropped
MIN_COUNT = 5  # of a phrase
MIN_NPMI = 0.5  # normalised pointwise mutual information of a phrase's words
LIMITS = (LIMIT, MIN_COUNT, MIN_NPMI)
BATCH = 10_000  # words that are tokenized together
_ADDITIONS = "additions.json"


@dataclass(frozen=True)
class Additions:
    """New entries of a vocabulary, the most frequent first, equally frequent ones in alphabetical order."""

    words: list[str]
    phrases: list[str]  # of two or three words


def refuse_other_tokenizers(tokenizer: Tokenizer, option: str, owner: str = "teacher") -> None:
    """InputError where a tokenizer is not one to which whole words can be added.

    Args:
        tokenizer: of a model. option: that asks for it, and ``owner``: what has it, for the error.
    """
    content = json.loads(tokenizer.to_str())
    kind, splitter = content["model"]["type"], (content["pre_tokenizer"] or {}).get("type")
    if kind != "WordPiece" or splitter != "BertPreTokenizer":
        raise InputError(
            f"{option} adds to a vocabulary of kind WordPiece, as BERT has, and the {owner}'s is {kind} with "
            f"{splitter or 'no pre-tokenizer'}; leave it out, or choose another {owner}"
        )


def cached_additions(texts: Texts, tokenizer: Tokenizer, words: int, phrases: int, least: int = 1) -> Additions:
    """As :func:`frequent_additions`; of texts with a name what they were before, from the cache."""
    if not isinstance(texts, NamedTexts):
        return frequent_additions(texts(), tokenizer, words, phrases, least)
    options = [words, phrases, *LIMITS, *([least] if least > 1 else [])]
    target = cache_dir() / "distilled" / key_of("additions", texts.key, tokenizer.to_str(), json.dumps(options))
    with build_once(target, lambda made: _read_additions(made) is not None, "frequent words") as work:
        if work is not None:
            additions = frequent_additions(texts(), tokenizer, words, phrases, least)
            write_text(work / _ADDITIONS, json.dumps(asdict(additions)))
    return _read_additions(target) or frequent_additions(texts(), tokenizer, words, phrases, least)


def _read_additions(folder: Path) -> Additions | None:
    try:
        content = json.loads((folder / _ADDITIONS).read_text(encoding="utf-8"))
        return Additions(list(content["words"]), list(content["phrases"]))
    except (OSError, ValueError, LookupError, TypeError):
        return None


def frequent_additions(
    texts: Iterable[str], tokenizer: Tokenizer, words: int, phrases: int, least: int = 1
) -> Additions:
    """The most frequent words that a tokenizer splits, and the most frequent collocations, of texts that are read once.

    A word is what the tokenizer's pre-tokenizer leaves together, normalised as the tokenizer does, with a letter in
    it. A collocation is two or three words with a space between each, at least MIN_COUNT times there, whose normalised
    pointwise mutual information is at least MIN_NPMI: ln(p / product of the words' p) / ((n - 1) * -ln p).

    Args:
        texts: sentences. tokenizer: as :func:`refuse_other_tokenizers` lets it pass.
        words, phrases: how many are wanted; there are fewer where the texts have not as many.
        least: times that a word is there, at least.

    Source of the measure: Bouma 2009, Normalized (Pointwise) Mutual Information in Collocation Extraction.
    """
    single, pairs, triples = BoundedCounts(), BoundedCounts(), BoundedCounts()
    for run in _runs(texts, tokenizer):
        single.add(run)
        if phrases and len(run) > 1:
            pairs.add(zip(run, run[1:], strict=False))
            triples.add(zip(run, run[1:], run[2:], strict=False))
    together = pairs.counts + triples.counts
    counted = {word: count for word, count in single.counts.items() if count >= least}
    return Additions(
        list(islice(_split_words(counted, tokenizer), words)),
        _collocations(single, together)[:phrases],
    )


class BoundedCounts:
    """How often things were there; the rarest are dropped where there are more than LIMIT different ones.

    One that comes again after that is counted from 1: so rare ones may be counted too low, and frequent ones are not.
    """

    def __init__(self) -> None:
        self.counts: Counter[Any] = Counter()
        self.total = 0  # that was counted, dropped ones included

    def add(self, items: Iterable[Hashable]) -> None:
        """Count each of these once more."""
        items = list(items)
        self.total += len(items)
        self.counts.update(items)
        if len(self.counts) > LIMIT:
            threshold = sorted(self.counts.values(), reverse=True)[LIMIT // 2]
            self.counts = Counter({item: count for item, count in self.counts.items() if count > threshold})


def _most_frequent(counts: Mapping[str, int]) -> list[str]:
    """The most frequent first, equally frequent ones in alphabetical order."""
    return sorted(counts, key=lambda item: (-counts[item], item))


def _runs(texts: Iterable[str], tokenizer: Tokenizer) -> Iterator[list[str]]:
    """Runs of words with one space between them and nothing else."""
    cache: dict[str, list[list[str]]] = {}
    for text in texts:
        run: list[str] = []
        for chunk in text.split(" "):
            parts = cache.get(chunk)
            if parts is None:
                if len(cache) >= LIMIT:
                    cache.clear()
                parts = cache[chunk] = _runs_of_chunk(chunk, tokenizer)
            run.extend(parts[0])
            for part in parts[1:]:
                if run:
                    yield run
                run = list(part)
        if run:
            yield run


def _runs_of_chunk(chunk: str, tokenizer: Tokenizer) -> list[list[str]]:
    """What stands between two spaces: the first run continues the word before, the last one continues after it."""
    normal = tokenizer.normalizer.normalize_str(chunk) if tokenizer.normalizer else chunk
    pieces = [piece for piece, _ in tokenizer.pre_tokenizer.pre_tokenize_str(normal)] if normal.strip() else []
    parts = [[piece] if any(letter.isalpha() for letter in piece) else [] for piece in pieces]
    if len(parts) == 1 and parts[0] and pieces[0] == normal:
        return parts
    # The words next to it are separated from a mark at its outside, and from several words: "don't know" has no "t
    # know".
    alone = sum(map(bool, parts)) == 1
    before: list[list[str]] = [] if alone and parts[0] and normal.startswith(pieces[0]) else [[]]
    after: list[list[str]] = [] if alone and parts[-1] and normal.endswith(pieces[-1]) else [[]]
    return [*before, *parts, *after]


def _split_words(counts: Mapping[str, int], tokenizer: Tokenizer) -> Iterator[str]:
    """The words of several pieces, the most frequent first."""
    ordered = iter(_most_frequent(counts))
    while batch := list(islice(ordered, BATCH)):
        encodings = tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        yield from (word for word, encoding in zip(batch, encodings, strict=True) if len(encoding.ids) > 1)


def _collocations(words: BoundedCounts, runs: Mapping[tuple[str, ...], int]) -> list[str]:
    """Of the runs of words those that are often together and seldom apart, the most frequent first."""
    chosen = {}
    for run, count in runs.items():
        if count >= MIN_COUNT and all(word in words.counts for word in run):
            share = count / words.total
            information = math.log(share) - sum(math.log(words.counts[word] / words.total) for word in run)
            if information >= MIN_NPMI * (len(run) - 1) * -math.log(share):
                chosen[" ".join(run)] = count
    return _most_frequent(chosen)


def extended(tokenizer: Tokenizer, additions: Additions) -> Tokenizer:
    """A WordPiece tokenizer with more words and phrases, whose ids follow its largest one, the words' first.

    Words are entries of its vocabulary, so that its longest match takes them; phrases are added tokens, which go
    before it, where a text has them as whole words. Both stand for all that the normaliser makes the same of.
    """
    content = json.loads(tokenizer.to_str())
    vocabulary = content["model"]["vocab"] | {token["content"]: token["id"] for token in content["added_tokens"]}
    first = max(vocabulary.values()) + 1
    for number, entry in enumerate([*additions.words, *additions.phrases], start=first):
        vocabulary[entry] = number  # (phrases too, from where their ids are taken)
    content["model"]["vocab"] = vocabulary
    made = Tokenizer.from_str(json.dumps(content))
    made.add_tokens([AddedToken(phrase, single_word=True, normalized=True) for phrase in additions.phrases])
    return made
