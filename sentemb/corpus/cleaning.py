"""Choose the sentences to train on. The corpus keeps all sentences; dropped ones are in no training pair.

So neighbours stay neighbours (those of a dropped sentence do not become each other's), another choice needs no other
preparation, and what each rule drops is counted.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from sentemb.corpus.corpus import Corpus
from sentemb.corpus.hashing import splitmix64
from sentemb.corpus.tokens import Tokens
from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.storage import build_once, key_of

SCRIPTS = ("any", "arabic", "armenian", "cyrillic", "devanagari", "greek", "han", "hangul", "hebrew", "latin", "thai")
AT_ONCE = 100_000  # sentences read
SORTED = 4_000_000  # keys sorted at a time
PERMUTATIONS = 128  # of a MinHash


@dataclass(frozen=True)
class Cleaning:
    """Rules; a sentence that breaks one is dropped."""

    min_tokens: int = 0
    max_tokens: int = 0
    letters: float = 0.0
    script: str = "any"
    duplicates: str = "none"
    near_duplicates: float = 0.0


def drop(
    min_tokens: int = 1, max_tokens: int = 0, letters: float = 0.5, script: str = "any", duplicates: str = "none",
    near_duplicates: float = 0.0,
) -> Cleaning:  # fmt: skip
    """Drop what is not a sentence.

    Args:
        min_tokens, max_tokens: least and most tokens without special ones; 0: no bound.
        letters: least share of letters among the characters that are not white space: tables, rules and numbers go.
        script: most letters must be of it (latin, cyrillic, ...); any.
        duplicates: sentences of the same tokens except the first: none, document (within one) or corpus (in all).
        near_duplicates: documents that share this part of their sentences with an earlier one (Jaccard similarity, up
            to 0.95, estimated by MinHash, Broder 1997), such as 0.8; 0: no search. Needs the package datasketch, and
            some kilobytes a document.

    Raises:
        ValueError: a number out of range. InputError: an unknown script or kind of duplicates.
    """
    if min_tokens < 0 or max_tokens < 0 or 0 < max_tokens < min_tokens:
        raise ValueError(f"min_tokens and max_tokens must be 0 <= min <= max, got {min_tokens} and {max_tokens}")
    for name, value, most in (("letters", letters, 1), ("near_duplicates", near_duplicates, 0.95)):
        if not 0 <= value <= most:
            raise ValueError(f"{name} must lie in [0, {most:g}], got {value}")
    choose("script", script, SCRIPTS)
    choose("duplicates", duplicates, ("none", "document", "corpus"))
    return Cleaning(min_tokens, max_tokens, letters, script, duplicates, near_duplicates)


CLEANINGS = {"none": Cleaning, "drop": drop}


@dataclass(frozen=True)
class CleaningResult:
    """The sentences that cleaning keeps, and counts of the others."""

    mask: NDArray[np.bool_]  # [sentences]
    dropped: dict[str, int]  # by rule, in order; a sentence counts for the first rule it breaks

    def __str__(self) -> str:
        """One line."""
        each = ", ".join(f"{rule} {count:,} ({count / len(self.mask):.2%})" for rule, count in self.dropped.items())
        return f"cleaning drops {int((~self.mask).sum()):,} of {len(self.mask):,} sentences: {each or 'no rule'}"


def clean_corpus(
    corpus: Corpus, tokens: Tokens, cleaning: Cleaning, special: int, max_length: int
) -> CleaningResult | None:
    """Which sentences to train on; None for no rule at all. What was found is stored next to the tokens.

    Args:
        special: special tokens in each sentence. max_length: to which the tokens were cut.

    Raises:
        InputError: a rule that no sentence can break or that all break; a package is missing.
    """
    if cleaning == Cleaning():
        return None
    if cleaning.max_tokens >= max_length - special > 0:
        raise InputError(
            f"max_tokens={cleaning.max_tokens} drops nothing: sentences are cut to max-length {max_length} with "
            f"{special} special tokens; give fewer tokens, or a larger --max-length"
        )
    folder = tokens.folder / f"kept-{key_of(repr(cleaning))}"
    if (cleaned := _read(folder, len(tokens))) is None:
        with build_once(
            folder, lambda made: _read(made, len(tokens)) is not None, "the cleaning", corpus.progress
        ) as work:
            if work is not None:
                _write(work, _look(corpus, tokens, cleaning, special))
        cleaned = _read(folder, len(tokens))
    if cleaned is None:
        raise InputError(f"{folder} cannot be read back; remove it and try again")
    if not cleaned.mask.any():
        raise InputError(f"{cleaned}; nothing is left to train on, so loosen a rule")
    return cleaned


def _look(corpus: Corpus, tokens: Tokens, cleaning: Cleaning, special: int) -> CleaningResult:
    mask, dropped = np.ones(len(tokens), dtype=bool), dict[str, int]()
    for start in tqdm(range(0, len(tokens), AT_ONCE), "cleaning", delay=1, leave=False, disable=not corpus.progress):
        part = slice(start, min(start + AT_ONCE, len(tokens)))
        lengths, remaining = tokens.lengths(part) - special, mask[part]
        rules: dict[str, NDArray[np.bool_]] = {}
        if cleaning.min_tokens:
            rules[f"under {cleaning.min_tokens} tokens"] = lengths < cleaning.min_tokens
        if cleaning.max_tokens:
            rules[f"over {cleaning.max_tokens} tokens"] = lengths > cleaning.max_tokens
        if cleaning.letters or cleaning.script != "any":
            rules |= letter_rules(corpus, part, cleaning)
        for rule, broken in rules.items():
            dropped[rule] = dropped.get(rule, 0) + int((remaining & broken).sum())
            remaining &= ~broken
    if cleaning.near_duplicates:
        broken = near_duplicates(corpus, tokens, cleaning.near_duplicates)
        dropped["in nearly copied documents"] = int((mask & broken).sum())
        mask &= ~broken
    if cleaning.duplicates != "none":
        broken = duplicates(corpus, tokens, cleaning.duplicates == "document", mask)
        dropped[f"copies within the {cleaning.duplicates}"] = int(broken.sum())
        mask &= ~broken
    return CleaningResult(mask, dropped)


def letter_rules(corpus: Corpus, part: slice, cleaning: Cleaning) -> dict[str, NDArray[np.bool_]]:
    """Which of these sentences break each rule on letters, ``[sentences of part]``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    texts = pa.array(corpus.sentences(part), pa.large_string())

    def count(but: str) -> NDArray[np.int64]:
        filtered_texts = pc.replace_substring_regex(texts, pattern=f"[^{but}]+", replacement="")
        return np.asarray(pc.utf8_length(filtered_texts), dtype=np.int64)

    letters, rules = count(r"\p{L}"), dict[str, NDArray[np.bool_]]()
    if cleaning.letters:
        rules[f"under {cleaning.letters:g} letters"] = letters < cleaning.letters * count(r"\S")
    if cleaning.script != "any":
        script_pattern = rf"\p{{{cleaning.script.title()}}}"
        rules[f"not in {cleaning.script} letters"] = 2 * count(script_pattern) < letters
    return rules


def duplicates(
    corpus: Corpus, tokens: Tokens, within: bool, mask: NDArray[np.bool_] | None = None
) -> NDArray[np.bool_]:
    """Which sentences have the tokens of an earlier one, ``[sentences]``, ``within`` its document or anywhere.

    In bounded memory: some millions of keys are sorted at a time, those that begin alike. Sentences outside ``mask``
    or without a token are not copies and have none.
    """
    count, bits = len(tokens), max(0, -(-len(tokens) // SORTED) - 1).bit_length()
    out, keys = np.zeros(count, dtype=bool), tokens.distinct().view(np.uint64)
    for bucket in range(1 << bits):
        rows, key_parts = [], []
        for start in range(0, count, SORTED):
            chunk_keys = keys[start : start + SORTED]
            if within:
                document = np.searchsorted(corpus.documents, np.arange(start, start + len(chunk_keys)), side="right")
                chunk_keys = splitmix64(chunk_keys ^ splitmix64(document.astype(np.uint64)))
            inside = tokens.lengths(slice(start, start + len(chunk_keys))) > 0
            if bits:
                inside &= chunk_keys >> np.uint64(64 - bits) == bucket
            if mask is not None:
                inside &= mask[start : start + len(chunk_keys)]
            rows.append(start + np.flatnonzero(inside))
            key_parts.append(chunk_keys[inside])
        places, bucket_keys = np.concatenate(rows), np.concatenate(key_parts)
        order = np.argsort(bucket_keys, kind="stable")
        again = bucket_keys[order][1:] == bucket_keys[order][:-1]
        out[places[order[1:][again]]] = True
    return out


def near_duplicates(corpus: Corpus, tokens: Tokens, similarity: float) -> NDArray[np.bool_]:
    """Which sentences stand in a document that shares ``similarity`` of its sentences with an earlier one.

    Of documents, as BookCorpus has thousands of books twice (Bandy & Vincent 2021, arXiv 2105.05241), and single
    sentences that are nearly alike are not harmful but a kind of positive.

    Raises:
        InputError: the package datasketch is missing.
    """
    try:
        from datasketch import MinHash, MinHashLSH
    except ImportError:
        raise InputError("near_duplicates needs the package datasketch; pip install 'sentemb[dedup]'") from None
    keys, out = tokens.distinct(), np.zeros(len(tokens), dtype=bool)
    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    for number, (start, stop) in enumerate(zip(corpus.documents[:-1], corpus.documents[1:], strict=True)):
        sketch = MinHash(PERMUTATIONS, seed=0)
        sketch.update_batch([key.tobytes() for key in np.unique(keys[start:stop])])
        if index.query(sketch):
            out[start:stop] = True
        else:
            index.insert(number, sketch)
    return out


def _read(folder: Path, count: int) -> CleaningResult | None:
    try:
        mask = np.fromfile(folder / "mask", dtype=np.uint8)
        dropped = {str(rule): int(n) for rule, n in json.loads((folder / "dropped.json").read_text("utf-8")).items()}
        return (
            CleaningResult(np.unpackbits(mask, count=count).astype(bool), dropped)
            if len(mask) == -(-count // 8)
            else None
        )
    except (OSError, ValueError, AttributeError):
        return None


def _write(folder: Path, cleaned: CleaningResult) -> None:
    (folder / "mask").write_bytes(np.packbits(cleaned.mask).tobytes())
    (folder / "dropped.json").write_text(json.dumps(cleaned.dropped), encoding="utf-8")
