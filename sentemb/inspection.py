"""What is in a corpus, before hours of training on it: lengths, copies, unknown words, odd characters, an epoch's time.

``python -m sentemb.corpus CORPUS`` prints the sections and makes a page of them. Memory grows with the text by a byte a
sentence: numbers are read a million sentences at a time, texts 10,000, and what would take long on all of it is
measured on an evenly spread sample, which is then said.
"""

import contextlib
import io
import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch.optim.optimizer import register_optimizer_step_post_hook
from tqdm import tqdm

from sentemb.corpus import (
    CHECKED,
    CHUNK,
    CLEANINGS,
    SORTED,
    Cleaning,
    Corpus,
    Kept,
    Tokens,
    WordwiseTokenizer,
    clean_corpus,
    cut,
    duplicates,
    letter_rules,
    open_corpus,
)
from sentemb.encoders import resolve, table
from sentemb.errors import InputError
from sentemb.pairs import Numbers, Pairs, Selection, draw, labelled, neighbours, sample
from sentemb.registry import build, check
from sentemb.runs import duration
from sentemb.training import bf16_units, keep_memory, use_threads

AT_ONCE = 1_000_000  # sentences whose numbers are looked at together, or that a vocabulary is learned from
SAMPLE, RUN, LONG = 100_000, 500, 10_000  # sentences whose text is looked at; in runs; tokenized again without a limit
ALL, LARGE = 2_000_000, 10_000  # sentences up to which all are looked at for ends of books; of a text in need of them
BATCH, WARM, BATCHES, SECONDS = 64, 3, 64, 4.0  # of the timing: pairs an update, updates not counted, most, aim
ALONE = """so many sentences are a single document: without boundaries the end of a book is paired with the beginning of
the next; open it with boundaries=true (an option of lines:path=, table:path=, hub:name=, bookcorpus)""".replace(
    "\n", " "
)
LONGEST, BARS = 1_000, 12  # tokens told apart; bars of the histogram


@dataclass(frozen=True)
class Section:
    """A part of the report."""

    title: str
    facts: list[tuple[str, str]]
    head: tuple[str, ...] = ()
    rows: Sequence[tuple[str, ...]] = ()
    texts: int = 1  # how many of a row's last cells are text
    notes: Sequence[str] = ()
    bars: Sequence[tuple[str, float]] = ()  # label and share


@dataclass(frozen=True)
class Text:
    """A corpus as a tokenizer sees it, and what cleaning keeps of it."""

    corpus: Corpus
    tokens: Tokens
    tokenizer: Tokenizer
    max_length: int
    special: int  # tokens of each sentence
    kept: Kept | None

    def pairs(self, ranges: NDArray[np.int64] | None = None) -> Pairs:
        """Neighbours, of labelled data anchors and positives, in these documents ``[n, 2]``, by default in all."""
        every = np.stack([self.corpus.documents[:-1], self.corpus.documents[1:]], axis=1)
        return (labelled if self.corpus.labelled else neighbours)(every if ranges is None else ranges)


def inspect(
    spec: str, tokenizer: str = "auto", max_length: int = 40, clean: str = "none", encoders: Sequence[str] = (),
    bounds: bool = False, seed: int = 0, timed: bool = True,
) -> Iterator[Section]:  # fmt: skip
    """The report on a corpus, section by section as they are found.

    Args:
        spec, max_length, clean, seed: as the recipes take them. tokenizer: as :func:`tokenizer_named`. encoders: specs
            to time, if ``timed``; none: each kind there is. bounds: look for books' ends in any case.

    Raises:
        InputError: something given cannot be used.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed must lie between 0 and 2^32, got {seed}")
    if timed or encoders:
        from sentemb.encoders import ENCODERS  # sentence-transformers: seconds

        encoders = encoders or ("rnn", "static", "transformer")[: 3 if resolve("auto") == "minilm" else 2]
        for encoder in encoders:
            check(cast(Any, ENCODERS), encoder, "encoder", ("texts", "max_length"))
    cleaning, corpus = build(CLEANINGS, clean, "clean"), open_corpus(spec)
    name, made = tokenizer_named(tokenizer, corpus)
    made.no_truncation()
    made.no_padding()
    tokens, special = corpus.tokens(made, max_length), made.num_special_tokens_to_add(False)
    kept = clean_corpus(corpus, tokens, cleaning, special, max_length)
    text = Text(corpus, tokens, made, max_length, special, kept)
    alone = bool(np.diff([*corpus.bounds, len(corpus.documents) - 1]).min() == 1)  # a source is one document
    yield about(text, name, alone and not corpus.one_book and "boundaries" not in spec)
    yield lengths(text)
    yield copies(text)
    yield unknown(text)
    yield characters(text)
    yield paired(text, bounds or alone, seed)
    if timed:
        yield timing(text, encoders, seed)


def tokenizer_named(name: str, corpus: Corpus) -> tuple[str, Tokenizer]:
    """A tokenizer and its name, ``auto`` spelled out.

    Args:
        name: auto; minilm or a text file of word embeddings (words alone, as encoder rnn has them); learned:SIZE (as
            rnn:embeddings=random learns it, but from held-out documents, too); a folder with a tokenizer.json, a run or
            a hub name, as they are, special tokens included.

    Raises:
        InputError: there is none of that name.
    """
    if name == "auto":
        if resolve(name) == "minilm":
            return "minilm", table(list, name, 1, 1)[0]
        name = "learned:16000"
    path, (kind, _, size) = Path(name).expanduser(), name.partition(":")
    if kind == "learned" and not path.exists():
        if not size.isdecimal() or int(size) < 1:
            raise InputError(f"tokenizer {name!r} lacks the size of its vocabulary; write learned:16000")
        return name, table(lambda: _texts(corpus), "random", int(size), 1)[0]
    if name == "minilm" or path.is_file():
        return name, table(list, str(path), 1, 1)[0]
    if (file := path / "tokenizer.json").is_file():
        try:
            return name, Tokenizer.from_file(str(file))
        except Exception as error:  # tokenizers raises nothing narrower
            raise InputError(f"{file} is no tokenizer ({error}); copy the file anew") from error
    from sentemb.encoders import load, tokenizer_of

    return name, tokenizer_of(load(name, device="cpu"))


def _texts(corpus: Corpus) -> Iterator[str]:
    return (text for part in _runs(len(corpus), AT_ONCE, "vocabulary") for text in corpus.sentences(part))


def _slices(count: int, step: int, what: str) -> Iterator[slice]:
    for start in tqdm(range(0, count, step), desc=what, delay=1, leave=False):
        yield slice(start, min(start + step, count))


def _runs(count: int, most: int, what: str) -> Iterator[slice]:
    """At most ``most`` of the sentences, evenly spread in runs."""
    starts = np.arange(0, count, RUN) if count <= most else np.linspace(0, count - RUN, most // RUN).astype(int)
    for start in tqdm(starts.tolist(), desc=what, delay=1, leave=False):
        yield slice(start, min(start + RUN, count))


def _spread(chosen: Selection, most: int) -> Numbers:
    return chosen[np.linspace(0, len(chosen) - 1, min(most, len(chosen))).astype(np.int64)]


def _share(part: float, whole: float) -> str:
    return f"{part:,.0f} ({'under 0.01%' if 0 < part < 5e-5 * whole else format(part / max(whole, 1), '.2%')})"


# ---- what is looked at


def about(text: Text, tokenizer: str, alone: bool) -> Section:
    """How much there is, and what preparing it left out."""
    corpus, count, total = text.corpus, len(text.corpus), len(text.tokens.ids)
    meta = json.loads((corpus.folder / "meta.json").read_text(encoding="utf-8"))
    written, sizes = sum(shard["characters"] for shard in meta["shards"]), np.diff(corpus.documents)
    notes = [*([ALONE] if alone and count > LARGE else []), *corpus.notes]
    facts = [
        ("fingerprint", corpus.fingerprint),
        ("tokenizer", f"{tokenizer}: {text.tokenizer.get_vocab_size():,} tokens, {text.special} special a sentence"),
        ("documents", f"{len(sizes):,}, of {np.median(sizes):,.0f} sentences (median), at most {sizes.max():,}"),
        ("sentences", f"{count:,}"),
        ("tokens", f"{total:,}, {total / count:.1f} a sentence, cut to {text.max_length}"),
        ("characters", f"{written:,}, {written / count:.1f} a sentence"),
        ("left out in preparing", f"{len(corpus.notes):,} notes" if corpus.notes else "nothing"),
    ]
    return Section(corpus.name, facts, notes=notes)


def length_counts(text: Text) -> tuple[NDArray[np.float64], int, int]:
    """How many sentences have 0, 1, ... LONGEST tokens; how many stand at the limit; how many of those were looked at.

    Tokens are cut to the limit, so sentences at it are tokenized again, LONG of them, who stand for all.
    """
    counts, limit = np.zeros(max(LONGEST, text.max_length) + 1), text.max_length
    full = np.zeros(len(text.tokens), dtype=bool)
    for part in _slices(len(text.tokens), AT_ONCE, "lengths"):
        found = text.tokens.lengths(part)
        counts += np.bincount(found, minlength=len(counts))
        full[part] = found == limit
    counts[limit] = 0
    chosen, encoder = Selection(full), WordwiseTokenizer(text.tokenizer)
    rows = _spread(chosen, LONG)
    for part in _slices(len(rows), CHUNK, "long sentences"):
        texts = text.corpus.sentences(rows[part])
        encoder.check(texts[:CHECKED])
        found = np.minimum(encoder.encode(texts)[1], len(counts) - 1)
        counts += np.bincount(found, minlength=len(counts)) * (len(chosen) / len(rows))
    return counts, len(chosen), len(rows)


def lengths(text: Text) -> Section:
    """The histogram of lengths and what --max-length cuts."""
    counts, full, looked = length_counts(text)
    total, limit, cumulated = counts.sum(), text.max_length, np.cumsum(counts)
    middle, most = (int(np.searchsorted(cumulated, share * total)) for share in (0.5, 0.99))
    facts = [
        ("tokens a sentence", f"{middle:,} (median), 99 % have at most {most:,}"),
        ("without a token", _share(cumulated[text.special], total)),
        (f"cut by --max-length {limit}", _share(total - cumulated[limit], total)),
    ]
    if looked < full:
        facts.append((f"how many tokens beyond {limit}", f"from {looked:,} of the {full:,} sentences at the limit"))
    edges = [*range(0, most + 1, max(1, -(-most // BARS))), len(counts)]
    bars = [(str(a) if b - a == 1 else f"{a}-{b - 1}", float(counts[a:b].sum() / total)) for a, b in pairwise(edges)]
    return Section("Lengths", facts, bars=[*bars[:-1], (f"{edges[-2]}+", bars[-1][1])])


def common(tokens: Tokens, mask: NDArray[np.bool_], most: int = 20) -> tuple[int, list[tuple[int, int]]]:
    """How many sentences of ``mask`` are distinct, and the most common as (count, first row), in bounded memory."""
    keys, bits = tokens.distinct().view(np.uint64), max(0, -(-len(tokens) // SORTED) - 1).bit_length()
    distinct, best = 0, list[tuple[int, int]]()
    for bucket in range(1 << bits):
        rows = [np.zeros(0, dtype=np.int64)]
        for part in _slices(len(keys), SORTED, f"copies, {bucket + 1} of {1 << bits}"):
            inside = keys[part] >> np.uint64(64 - bits) == bucket if bits else True
            rows.append(part.start + np.flatnonzero(mask[part] & inside))
        where = np.concatenate(rows)
        _, first, counts = np.unique(keys[where], return_index=True, return_counts=True)
        top = np.lexsort((where[first], -counts))[:most]
        best += zip(counts[top].tolist(), where[first[top]].tolist(), strict=True)
        best, distinct = sorted(best, key=lambda one: (-one[0], one[1]))[:most], distinct + len(first)
    return distinct, best


def copies(text: Text) -> Section:
    """Sentences that were said before, and the most common ones."""
    filled = np.empty(len(text.tokens), dtype=bool)
    for part in _slices(len(filled), AT_ONCE, "lengths"):
        filled[part] = text.tokens.lengths(part) > text.special
    (distinct, best), within = common(text.tokens, filled), duplicates(text.corpus, text.tokens, True, filled)
    facts = [
        ("of an earlier sentence", _share(int(filled.sum()) - distinct, len(filled))),
        ("of one in the same document", _share(int(within.sum()), len(filled))),
    ]
    said = zip(best, text.corpus.sentences([row for _, row in best]), strict=True)
    rows = [(f"{count:,}", sentence) for (count, _), sentence in said]
    return Section(f"Copies (the same {text.max_length} first tokens)", facts, ("times", "most common sentence"), rows)


def unknown(text: Text) -> Section:
    """What the vocabulary lacks."""
    model = json.loads(text.tokenizer.to_str())["model"]
    name, ids, total = model.get("unk_token"), text.tokens.ids, 0
    number = model.get("unk_id") if name is None else text.tokenizer.token_to_id(name)
    mask, words = np.zeros(len(text.tokens), dtype=bool), Counter[str]()
    for part in _slices(len(mask) if number is not None else 0, AT_ONCE, "unknown tokens"):
        bounds = np.asarray(text.tokens.offsets[part.start : part.stop + 1])
        places = np.flatnonzero(ids[bounds[0] : bounds[-1]] == number) + bounds[0]
        mask[part.start + np.searchsorted(bounds, places, side="right") - 1] = True
        total += len(places)
    chosen = Selection(mask)
    rows = _spread(chosen, SAMPLE)
    for part in _slices(len(rows), CHUNK, "unknown words"):
        words.update(chain.from_iterable(map(str.split, text.corpus.sentences(rows[part]))))
    distinct, known = list(words), set[str]()
    for part in _slices(len(distinct), CHUNK, "unknown words"):
        found = text.tokenizer.encode_batch_fast(distinct[part], add_special_tokens=False)
        known.update(word for word, one in zip(distinct[part], found, strict=True) if number not in one.ids)
    found_words = [(count, word) for word, count in words.items() if word not in known]
    best = sorted(found_words, key=lambda one: (-one[0], one[1]))[:10]
    facts = [
        ("the token", "none: all text can be spelled" if number is None else str(text.tokenizer.id_to_token(number)))
    ]
    facts += [("tokens", _share(total, len(ids))), ("sentences with any", _share(len(chosen), len(mask)))]
    facts += [("words counted in", f"a sample of {len(rows):,} of them")] if len(rows) < len(chosen) else []
    head = ("times", "most frequent word with one")
    return Section("Unknown tokens", facts, head, [(f"{count:,}", word) for count, word in best])


def characters(text: Text) -> Section:
    """Text that is hardly any."""
    looked, undecodable, found = 0, 0, np.zeros(2, dtype=np.int64)
    for part in _runs(len(text.corpus), SAMPLE, "characters"):
        rules = letter_rules(text.corpus, part, Cleaning(letters=0.5, script="latin"))
        found += [int(broken.sum()) for broken in rules.values()]
        undecodable += sum("\ufffd" in sentence for sentence in text.corpus.sentences(part))
        looked += part.stop - part.start
    names = ("with undecodable ones (U+FFFD)", "under 50 % letters", "letters mostly not Latin")
    shares = [_share(count, looked) for count in (undecodable, *found.tolist())]
    return Section(f"Characters (of {looked:,} sentences, evenly spread)", [*zip(names, shares, strict=True)])


def paired(text: Text, bounds: bool, seed: int) -> Section:
    """The pairs of neighbours: what of them is trained on, what boundaries would cut, and ten of them."""
    pairs, same, empty, alike, lost = text.pairs().rows, text.tokens.distinct(), 0, 0, 0
    for part in _slices(len(pairs), AT_ONCE, "pairs"):
        rows = pairs[part][:, :2]
        void = (text.tokens.lengths(rows) <= text.special).any(axis=1)
        empty, alike = empty + int(void.sum()), alike + int((~void & (same[rows[:, 0]] == same[rows[:, 1]])).sum())
        lost += int((~text.kept.mask[rows].all(axis=1)).sum()) if text.kept else 0
    count = len(pairs)
    facts = [("pairs", f"{count:,}"), ("of a sentence and its copy", _share(alike, count))]
    facts.append(("with a side without a token", _share(empty, count)))
    if text.kept:
        facts += [(f"--clean: {rule}", _share(n, len(text.tokens))) for rule, n in text.kept.dropped.items()]
        facts.append(("--clean: pairs lost by it", _share(lost, count)))
    facts += _boundaries(text) if bounds else []
    rows = draw(pairs, 10, seed)[:, :2]
    said = text.corpus.sentences(rows.flatten())
    shown = [(str(number), *both) for number, both in enumerate(zip(said[::2], said[1::2], strict=True), start=1)]
    return Section(f"Neighbours (with seed {seed})", facts, ("", "sentence", "its neighbour"), shown, texts=2)


def _boundaries(text: Text) -> list[tuple[str, str]]:
    looked = found = inside = pairs = 0
    for part in _runs(len(text.corpus), ALL, "boundaries"):
        marks = np.array([None in cut([sentence], True) for sentence in text.corpus.sentences(part)])
        second, starts = np.ones(len(marks), dtype=bool), text.corpus.documents  # of a pair
        second[starts[slice(*np.searchsorted(starts, (part.start, part.stop)))] - part.start] = False
        looked, found = looked + len(marks), found + int(marks.sum())
        inside, pairs = inside + int((marks & second).sum()), pairs + int(second.sum())
    return [
        (f"like a book's end, of {looked:,}", _share(found, looked)),
        ("pairs boundaries=true would cut", _share(inside, pairs)),
    ]


def timing(text: Text, specs: Sequence[str], seed: int) -> Section:
    """Train a few updates with each encoder, and what an epoch of them would take."""
    from sentemb.pairs import usable

    mask, train = text.kept.mask if text.kept else None, text.corpus.split()[0]
    sources = [train] if set(text.corpus.weights) == {1.0} else text.corpus.by_source(train)
    parts = [usable(text.pairs(ranges), text.tokens, mask) for ranges in sources]
    epoch = sum(round(weight * len(part)) for weight, part in zip(text.corpus.weights, parts, strict=False))
    rows = draw(parts[0].rows, BATCH * BATCHES, seed)[:, :2]
    said = text.corpus.sentences(rows.flatten())
    rates = [(_rate(spec, said, text, seed), spec) for spec in (specs if len(rows) > 1 else ())]
    found = [(f"{rate:,.0f}", duration(epoch / rate), spec) for rate, spec in rates]
    facts = [("pairs an epoch", f"{epoch:,}, as a tenth is held out"), ("pairs an update", f"{BATCH}, by infonce")]
    return Section("An epoch on this machine", facts, ("pairs/s", "an epoch", "encoder"), found)


def _rate(spec: str, said: list[str], text: Text, seed: int) -> float:
    """Pairs a second that are trained: two and two of these sentences, first updates not counted."""
    from sentemb.encoders import ENCODERS, tokenizer_of
    from sentemb.forward import Embedder
    from sentemb.objectives import InfoNCE
    from sentemb.training import FitConfig, fit

    tqdm.write(f"timing {spec}", file=sys.stderr)
    use_threads(None)
    keep_memory()
    torch.manual_seed(seed)
    AcceleratorState._reset_state()  # (it keeps the precision of the encoder before)
    accelerator = Accelerator(mixed_precision="bf16" if spec.startswith("transformer") and bf16_units() else None)
    ends, steps = list[float](), 2 * WARM
    hook = register_optimizer_step_post_hook(lambda *_: ends.append(time.perf_counter()))
    quiet = contextlib.redirect_stderr(io.StringIO())  # (what so short a training warns of says nothing)
    with tempfile.TemporaryDirectory() as folder, quiet:
        given: Any = {"texts": lambda: _texts(text.corpus), "max_length": text.max_length}
        model = build(cast(Any, ENCODERS), spec, "encoder", **given)
        tokenizer = tokenizer_of(model)
        tokenizer.enable_truncation(text.max_length)
        encoder = WordwiseTokenizer(tokenizer)
        encoder.check(said[:CHECKED])
        ids, counts = encoder.encode(said)
        tokens = Tokens(ids, np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts)]))
        pairs = Pairs(np.arange(len(said)).reshape(-1, 2))
        for run in ("first", "second"):  # first to learn how many updates take so long
            ends.clear()
            config = FitConfig(max_steps=steps, batch_size=BATCH, lr=1e-6, log_every=10**9, seed=seed)
            some = sample(pairs, steps * BATCH, seed)
            fit(Embedder(model), InfoNCE(), some, tokens, config, accelerator, Path(folder, run))
            spent, counted = ends[-1] - ends[WARM - 1], len(ends) - WARM
            if spent > SECONDS:
                break
            steps = min(BATCHES, WARM + 1 + int(SECONDS * counted / spent))
    hook.remove()
    return min(BATCH, len(pairs)) * counted / spent
