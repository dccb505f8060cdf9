"""The parts of the report on a corpus: how much, how long, how often, how strange."""

import json
from collections import Counter
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from sentemb.corpus import (
    CHECKED,
    CHUNK,
    SORTED,
    Cleaning,
    Tokens,
    WordwiseTokenizer,
    cut,
    duplicates,
    letter_rules,
    word_pieces,
)
from sentemb.inspection.text import AT_ONCE, LONG, SAMPLE, Section, Text, runs_of, share_of, slices_of, spread_over
from sentemb.pairs import Selection, draw
from sentemb.wording import counted

ALL, LARGE = 2_000_000, 10_000  # sentences up to which all are searched for ends of books; of a text in need of them
ALONE = """all sentences are in one document: without boundaries the end of a book is paired with the beginning of
the next; open it with boundaries=true (an option of lines:path=, table:path=, hub:name=, bookcorpus)""".replace(
    "\n", " "
)
LONGEST, BARS = 1_000, 12  # tokens that are distinguished; bars of the histogram


def about(text: Text, tokenizer: str, alone: bool) -> Section:
    """How much there is, and what preparing it left out."""
    corpus, count, total = text.corpus, len(text.corpus), len(text.tokens.ids)
    meta = json.loads((corpus.folder / "meta.json").read_text(encoding="utf-8"))
    written, sizes = sum(shard["characters"] for shard in meta["shards"]), np.diff(corpus.documents)
    pieces = word_pieces(corpus, text.tokenizer)
    notes = [*([ALONE] if alone and count > LARGE else []), *([pieces.note] if pieces.note else []), *corpus.notes]
    facts = [
        ("fingerprint", corpus.fingerprint),
        ("tokenizer", f"{tokenizer}: {text.tokenizer.get_vocab_size():,} tokens in its vocabulary"),
        ("added to each sentence", counted(text.special, "special token") if text.special else "no special token"),
        ("documents", f"{len(sizes):,}, of {np.median(sizes):,.0f} sentences (median), at most {sizes.max():,}"),
        ("sentences", f"{count:,}"),
        ("tokens", f"{total:,}, {total / count:.1f} a sentence, cut to {text.max_length}"),
        ("characters", f"{written:,}, {written / count:.1f} a sentence"),
        ("words in 3 pieces or more", f"{share_of(pieces.split, pieces.words)} of a sample, of four letters or more"),
        ("notes on how it was read", f"{len(corpus.notes):,}" if corpus.notes else "none"),
    ]
    return Section(corpus.name, facts, notes=notes)


def length_counts(text: Text) -> tuple[NDArray[np.float64], int, int]:
    """How many sentences have 0, 1, ... LONGEST tokens; how many stand at the limit; how many of those were read.

    Tokens are cut to the limit, so sentences at it are tokenized again, LONG of them, who stand for all.
    """
    counts, limit = np.zeros(max(LONGEST, text.max_length) + 1), text.max_length
    full = np.zeros(len(text.tokens), dtype=bool)
    for part in slices_of(len(text.tokens), AT_ONCE, "lengths"):
        token_counts = text.tokens.lengths(part)
        counts += np.bincount(token_counts, minlength=len(counts))
        full[part] = token_counts == limit
    counts[limit] = 0
    chosen, encoder = Selection(full), WordwiseTokenizer(text.tokenizer)
    rows = spread_over(chosen, LONG)
    for part in slices_of(len(rows), CHUNK, "long sentences"):
        texts = text.corpus.sentences(rows[part])
        encoder.check(texts[:CHECKED])
        token_counts = np.minimum(encoder.encode(texts)[1], len(counts) - 1)
        counts += np.bincount(token_counts, minlength=len(counts)) * (len(chosen) / len(rows))
    return counts, len(chosen), len(rows)


def lengths(text: Text) -> Section:
    """The histogram of lengths and what --max-length cuts."""
    counts, full, looked = length_counts(text)
    total, limit, cumulated = counts.sum(), text.max_length, np.cumsum(counts)
    middle, most = (int(np.searchsorted(cumulated, share * total)) for share in (0.5, 0.99))
    facts = [
        ("tokens a sentence", f"{middle:,} (median), 99 % have at most {most:,}"),
        ("without a token", share_of(cumulated[text.special], total)),
        (f"cut by --max-length {limit}", share_of(total - cumulated[limit], total)),
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
        for part in slices_of(len(keys), SORTED, f"copies, {bucket + 1} of {1 << bits}"):
            inside = keys[part] >> np.uint64(64 - bits) == bucket if bits else True
            rows.append(part.start + np.flatnonzero(mask[part] & inside))
        where = np.concatenate(rows)
        _, first, counts = np.unique(keys[where], return_index=True, return_counts=True)
        top = np.lexsort((where[first], -counts))[:most]
        best += zip(counts[top].tolist(), where[first[top]].tolist(), strict=True)
        best, distinct = sorted(best, key=lambda one: (-one[0], one[1]))[:most], distinct + len(first)
    return distinct, best


def copies(text: Text) -> Section:
    """Sentences that stand in the text before, and the most common of those that are there more than once."""
    filled = np.empty(len(text.tokens), dtype=bool)
    for part in slices_of(len(filled), AT_ONCE, "lengths"):
        filled[part] = text.tokens.lengths(part) > text.special
    (distinct, best), within = common(text.tokens, filled), duplicates(text.corpus, text.tokens, True, filled)
    facts = [
        ("of an earlier sentence", share_of(int(filled.sum()) - distinct, len(filled))),
        ("of one in the same document", share_of(int(within.sum()), len(filled))),
    ]
    counted = zip(best, text.corpus.sentences([row for _, row in best]), strict=True)
    rows = [(f"{count:,}", sentence) for (count, _), sentence in counted if count > 1]
    return Section(f"Copies (the same {text.max_length} first tokens)", facts, ("times", "most common sentence"), rows)


def unknown(text: Text) -> Section:
    """What the vocabulary lacks."""
    model = json.loads(text.tokenizer.to_str())["model"]
    name, ids, total = model.get("unk_token"), text.tokens.ids, 0
    number = model.get("unk_id") if name is None else text.tokenizer.token_to_id(name)
    mask, words = np.zeros(len(text.tokens), dtype=bool), Counter[str]()
    for part in slices_of(len(mask) if number is not None else 0, AT_ONCE, "unknown tokens"):
        bounds = np.asarray(text.tokens.offsets[part.start : part.stop + 1])
        places = np.flatnonzero(ids[bounds[0] : bounds[-1]] == number) + bounds[0]
        mask[part.start + np.searchsorted(bounds, places, side="right") - 1] = True
        total += len(places)
    chosen = Selection(mask)
    rows = spread_over(chosen, SAMPLE)
    for part in slices_of(len(rows), CHUNK, "unknown words"):
        words.update(chain.from_iterable(map(str.split, text.corpus.sentences(rows[part]))))
    distinct, covered = list(words), set[str]()
    for part in slices_of(len(distinct), CHUNK, "unknown words"):
        encodings = text.tokenizer.encode_batch_fast(distinct[part], add_special_tokens=False)
        covered.update(word for word, one in zip(distinct[part], encodings, strict=True) if number not in one.ids)
    uncovered = [(count, word) for word, count in words.items() if word not in covered]
    best = sorted(uncovered, key=lambda one: (-one[0], one[1]))[:10]
    facts = [
        ("the token", "none: all text can be spelled" if number is None else str(text.tokenizer.id_to_token(number)))
    ]
    facts += [("tokens", share_of(total, len(ids))), ("sentences with any", share_of(len(chosen), len(mask)))]
    facts += [("words counted in", f"a sample of {len(rows):,} of them")] if len(rows) < len(chosen) else []
    head = ("times", "most frequent word with one")
    return Section("Unknown tokens", facts, head, [(f"{count:,}", word) for count, word in best])


def characters(text: Text) -> Section:
    """Text that is hardly any."""
    looked, undecodable, rule_counts = 0, 0, np.zeros(2, dtype=np.int64)
    for part in runs_of(len(text.corpus), SAMPLE, "characters"):
        rules = letter_rules(text.corpus, part, Cleaning(letters=0.5, script="latin"))
        rule_counts += [int(broken.sum()) for broken in rules.values()]
        undecodable += sum("\ufffd" in sentence for sentence in text.corpus.sentences(part))
        looked += part.stop - part.start
    names = ("with undecodable ones (U+FFFD)", "under 50 % letters", "letters mostly not Latin")
    shares = [share_of(count, looked) for count in (undecodable, *rule_counts.tolist())]
    return Section(f"Characters (of {looked:,} sentences, evenly spread)", [*zip(names, shares, strict=True)])


def paired(text: Text, bounds: bool, seed: int) -> Section:
    """The pairs of neighbours: what of them is trained on, what boundaries would cut, and ten of them."""
    pairs, same, empty, alike, lost = text.pairs().rows, text.tokens.distinct(), 0, 0, 0
    for part in slices_of(len(pairs), AT_ONCE, "pairs"):
        rows = pairs[part][:, :2]
        void = (text.tokens.lengths(rows) <= text.special).any(axis=1)
        empty, alike = empty + int(void.sum()), alike + int((~void & (same[rows[:, 0]] == same[rows[:, 1]])).sum())
        lost += int((~text.cleaned.mask[rows].all(axis=1)).sum()) if text.cleaned else 0
    count = len(pairs)
    facts = [("pairs", f"{count:,}"), ("of a sentence and its copy", share_of(alike, count))]
    facts.append(("with a side without a token", share_of(empty, count)))
    if text.cleaned:
        facts += [(f"--clean: {rule}", share_of(n, len(text.tokens))) for rule, n in text.cleaned.dropped.items()]
        facts.append(("--clean: pairs lost by it", share_of(lost, count)))
    facts += _boundaries(text) if bounds else []
    rows = draw(pairs, 10, seed)[:, :2]
    sentences = text.corpus.sentences(rows.flatten())
    shown = [
        (str(number), *both) for number, both in enumerate(zip(sentences[::2], sentences[1::2], strict=True), start=1)
    ]
    return Section(f"Neighbours (with seed {seed})", facts, ("", "sentence", "its neighbour"), shown, texts=2)


def _boundaries(text: Text) -> list[tuple[str, str]]:
    looked = boundaries = inside = pairs = 0
    for part in runs_of(len(text.corpus), ALL, "boundaries"):
        marks = np.array([None in cut([sentence], True) for sentence in text.corpus.sentences(part)])
        second, starts = np.ones(len(marks), dtype=bool), text.corpus.documents  # of a pair
        second[starts[slice(*np.searchsorted(starts, (part.start, part.stop)))] - part.start] = False
        looked, boundaries = looked + len(marks), boundaries + int(marks.sum())
        inside, pairs = inside + int((marks & second).sum()), pairs + int(second.sum())
    return [
        (f"like a book's end, of {looked:,}", share_of(boundaries, looked)),
        ("pairs boundaries=true would cut", share_of(inside, pairs)),
    ]
