"""The report on a corpus tells what a slow count finds, its page shows text as text, and errors are one sentence."""

import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from sentemb.corpus import CLEANINGS, clean_corpus, cut, open_corpus
from sentemb.errors import InputError
from sentemb.inspection import Section, inspect, sections, timing
from sentemb.inspection.cli import as_text, main
from sentemb.inspection.inspector import tokenizer_named
from sentemb.inspection.text import Text
from sentemb.registry import build
from sentemb.training import TrainingSettings

SCRIPT = "<script>alert(1)</script>"
WORDS = [
    "the",
    "a",
    "cat",
    "dog",
    "saw",
    "ate",
    "big",
    "red",
    "fish",
    "tree",
    "ran",
    "home",
    "and",
    "it",
    "was",
    "late",
]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def documents() -> list[list[str]]:
    """Random short sentences with copies, two of them neighbours, and some that stand out."""
    rng = np.random.default_rng(0)
    sentences = [[" ".join(rng.choice(WORDS, rng.integers(1, 12))) for _ in range(40)] for _ in range(6)]
    sentences[0][5:8] = ["the end", "the end", "the end"]
    sentences[1][3:6] = [SCRIPT, "\ufffd what", "Москва слезам не верит"]
    sentences[2][0], sentences[2][9], sentences[3][30] = "Chapter One", "12 34 56 -- ?", "cat 🜁 🜁x dog"
    return sentences


@pytest.fixture
def corpus(tmp_path, documents) -> str:
    path = tmp_path / "lines.txt"
    path.write_text("\n\n".join("\n".join(document) for document in documents), encoding="utf-8")
    return str(path)


@pytest.fixture
def vocabulary(tmp_path) -> str:
    """A text file of word embeddings without most of the odd words."""
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word} 0.1 0.2\n" for word in [*WORDS, "end", "what", "chapter"]), encoding="utf-8")
    return str(path)


def opened(corpus: str, vocabulary: str, max_length: int, clean: str = "none") -> Text:
    loaded_corpus = open_corpus(corpus, progress=False)
    _, tokenizer = tokenizer_named(vocabulary, loaded_corpus)
    tokens = loaded_corpus.tokens(tokenizer, max_length)
    cleaning_result = clean_corpus(loaded_corpus, tokens, build(CLEANINGS, clean, "clean"), 0, max_length)
    return Text(loaded_corpus, tokens, tokenizer, max_length, 0, cleaning_result)


def number(section: Section, label: str) -> int:
    return int(dict(section.facts)[label].split()[0].replace(",", ""))


def test_lengths_are_those_of_whole_sentences(corpus, documents, vocabulary):
    text = opened(corpus, vocabulary, 6)
    expected = Counter(len(text.tokenizer.encode(s).ids) for document in documents for s in document)
    counts, full, looked = sections.length_counts(text)
    assert {length: int(n) for length, n in enumerate(counts) if n} == dict(expected)
    assert full == looked == sum(n for length, n in expected.items() if length >= 6)
    section = sections.lengths(text)
    assert number(section, "cut by --max-length 6") == sum(n for length, n in expected.items() if length > 6)
    assert sum(share for _, share in section.bars) == pytest.approx(1)


def test_a_sample_of_the_long_sentences_stands_for_all(corpus, vocabulary, monkeypatch):
    monkeypatch.setattr(sections, "LONG", 20)
    counts, full, looked = sections.length_counts(opened(corpus, vocabulary, 4))
    assert looked == 20 < full and counts.sum() == pytest.approx(240)


@pytest.mark.parametrize("at_once", [4_000_000, 50])
def test_copies_are_those_of_a_slow_count(corpus, documents, vocabulary, monkeypatch, at_once):
    monkeypatch.setattr(sections, "SORTED", at_once)  # one bucket, or eight
    text = opened(corpus, vocabulary, 40)
    tokenized = [
        (d, " ".join(text.tokenizer.encode(s).tokens)) for d, document in enumerate(documents) for s in document
    ]
    section, counts = sections.copies(text), Counter(s for _, s in tokenized)
    assert number(section, "of an earlier sentence") == len(tokenized) - len(counts)
    assert number(section, "of one in the same document") == len(tokenized) - len(set(tokenized))
    repeated = sorted((count for count in counts.values() if count > 1), reverse=True)
    assert [int(row[0]) for row in section.rows] == repeated[:20] and repeated
    for times, sentence in section.rows:
        assert counts[" ".join(text.tokenizer.encode(sentence).tokens)] == int(times)


def test_pairs_are_those_of_a_slow_count(corpus, documents, vocabulary):
    text = opened(corpus, vocabulary, 40, "drop:min_tokens=3,letters=0.5,duplicates=document")
    section, mask, row = sections.paired(text, True, 0), text.cleaned.mask, 0
    alike = lost = ends = inside = 0
    for document in documents:
        ids = [text.tokenizer.encode(s).ids for s in document]
        alike += sum(a == b for a, b in pairwise(ids))
        lost += sum(not (mask[row + i] and mask[row + i + 1]) for i in range(len(document) - 1))
        marks = [None in cut([s], True) for s in document]
        ends, inside, row = ends + sum(marks), inside + sum(marks[1:]), row + len(document)
    assert number(section, "pairs") == 6 * 39
    assert number(section, "of a sentence and its copy") == alike >= 2
    assert number(section, "--clean: pairs lost by it") == lost
    assert number(section, "like a book's end, of 240") == ends == inside + 1 == 4  # one begins its document
    assert number(section, "pairs boundaries=true would cut") == inside
    neighbours = {pair for document in documents for pair in pairwise(document)}
    assert len(section.rows) == 10 and all(row[1:] in neighbours for row in section.rows)


def test_unknown_tokens_are_counted_and_their_words_named(corpus, documents, vocabulary):
    section, lacking = sections.unknown(text := opened(corpus, vocabulary, 40)), text.tokenizer.token_to_id("[UNK]")
    rows = [text.tokenizer.encode(s).ids for document in documents for s in document]
    assert number(section, "tokens") == sum(row.count(lacking) for row in rows) > 5
    assert number(section, "sentences with any") == sum(lacking in row for row in rows)
    words = Counter(word for document in documents for s in document for word in s.split())
    odd = [(-n, word) for word, n in words.items() if lacking in text.tokenizer.encode(word).ids]
    assert section.rows == [(str(-n), word) for n, word in sorted(odd)[:10]]
    assert ("1", SCRIPT) in section.rows


def test_a_tokenizer_that_spells_everything_has_no_unknown(corpus, vocabulary):
    section = sections.unknown(opened(corpus, "learned:300", 40))
    assert number(section, "tokens") == 0 and not section.rows


def test_characters_are_those_of_a_slow_count(corpus, vocabulary):
    section = sections.characters(opened(corpus, vocabulary, 40))
    assert [number(section, label) for label, _ in section.facts] == [1, 1, 1]
    assert "240" in section.title


def test_one_large_document_is_warned_of(tmp_path, vocabulary, monkeypatch):
    monkeypatch.setattr(sections, "LARGE", 50)
    (tmp_path / "one.txt").write_text("".join(f"the cat saw {i} fish\n" for i in range(60)), encoding="utf-8")
    for spec, warning_count in (
        (str(tmp_path / "one.txt"), 1),
        (f"lines:path={tmp_path / 'one.txt'},boundaries=true", 0),
    ):
        report = list(inspect(spec, vocabulary, encoders=None))
        assert sum("boundaries=true" in note for note in report[0].notes) == warning_count
        assert "pairs boundaries=true would cut" in dict(report[-1].facts)


def test_the_command_prints_and_writes_the_same_twice(corpus, vocabulary, tmp_path, capsys):
    page = tmp_path / "new" / "report" / "corpus.html"
    command = [corpus, "--tokenizer", vocabulary, "--no-time", "--out", str(page.parent), "--clean", "drop"]
    main(command)
    first, content = capsys.readouterr().out, page.read_bytes()
    main(command)
    assert capsys.readouterr().out == first and page.read_bytes() == content
    assert "fingerprint" in first and "most common sentence" in first and f"page: {page}" in first


def test_a_vocabulary_that_splits_most_words_is_noted(tmp_path):
    (tmp_path / "text.txt").write_text("The carpenter remembers yesterday.\nEverybody wonders about tomorrow.\n" * 20)
    for tokenizer, noted in (("learned:260", 1), ("learned:2000", 0)):
        section = next(inspect(str(tmp_path / "text.txt"), tokenizer, encoders=None))
        assert sum("the tokenizer splits" in note for note in section.notes) == noted
        assert number(section, "words in 3 pieces or more") == 140 * noted


def test_without_a_folder_nothing_is_written(corpus, vocabulary, tmp_path, monkeypatch, capsys):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    main([corpus, "--tokenizer", vocabulary, "--no-time"])
    assert "page:" not in capsys.readouterr().out and not list((tmp_path / "empty").iterdir())


def test_no_sentence_is_listed_where_none_is_repeated(tmp_path, vocabulary):
    path = tmp_path / "once.txt"
    path.write_text("".join(f"the cat saw the {word}\n" for word in WORDS), encoding="utf-8")
    section = sections.copies(opened(str(path), vocabulary, 40))
    assert not section.rows and "most common" not in as_text(section)


def test_the_page_shows_text_as_text_and_loads_nothing(corpus, vocabulary, tmp_path):
    page = tmp_path / "corpus.html"
    main([corpus, "--tokenizer", vocabulary, "--no-time", "--out", str(tmp_path)])
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<svg" in text and "default-src &#x27;none&#x27;" not in text and "default-src 'none'" in text
    for reference in re.findall(r"""(?:href|src)=["']([^"']*)""", text):
        assert reference.startswith("#")


def test_what_steers_a_terminal_is_taken_out():
    text = as_text(
        Section("t", [("a", "b")], ("", ""), [("1", "red \x1b[31m text")], notes=[f"note {i}" for i in range(9)])
    )
    assert "\x1b" not in text and "note 4" in text and "note 5" not in text and "4 more" in text


def test_a_page_that_is_not_ours_is_left_alone(corpus, tmp_path, capsys):
    page = tmp_path / "corpus.html"
    page.write_text("mine")
    (tmp_path / "taken" / "corpus.html").mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "taken", page, page / "inside"):
        with pytest.raises(SystemExit, match="2"):
            main([corpus, "--no-time", "--out", str(folder)])
        printed = capsys.readouterr()
        assert printed.err.startswith("error: --out") and printed.err.count("\n") == 1 and not printed.out
    assert page.read_text() == "mine"


@pytest.mark.parametrize(
    "arguments",
    [
        ["nothing-there"],
        ["CORPUS", "--tokenizer", "learned:many"],
        ["CORPUS", "--tokenizer", "FOLDER"],
        ["CORPUS", "--max-length", "0"],
        ["CORPUS", "--clean", "dropp"],
        ["CORPUS", "--encoder", "rnn:cells=3"],
        ["CORPUS", "--seed", "-1"],
    ],
)
def test_what_cannot_be_used_is_told_in_a_sentence(arguments, corpus, tmp_path, capsys):
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "tokenizer.json").write_text("{}")
    names = {"CORPUS": corpus, "FOLDER": str(tmp_path / "broken")}
    with pytest.raises(SystemExit, match="2"):
        main([*(names.get(part, part) for part in arguments), "--no-time"])
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1


def test_an_epoch_is_timed(corpus, vocabulary, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.01)
    first, *_, section = inspect(corpus, vocabulary, encoders=[f"static:embeddings={vocabulary}"])
    assert dict(first.facts)["added to each sentence"] == "no special token"
    assert dict(section.facts)["pairs an update"] == f"{TrainingSettings().batch_size}, by infonce"
    ((rate, epoch, name),) = section.rows
    assert float(rate.replace(",", "")) > 0 and epoch == "0 min 0 s" and name.startswith("static")
    with pytest.raises(InputError, match="unknown encoder"):
        next(inspect(corpus, vocabulary, encoders=["cnn"]))


def test_help_answers_without_torch():
    code = "from sentemb.inspection.cli import parser; import sys; parser().print_help(); print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ))
    assert run.stdout.endswith("False\n") and "--max-length" in run.stdout


@pytest.mark.slow
def test_real_books(real_data: Path, tmp_path: Path):
    (tmp_path / "books").mkdir()
    for book in sorted((real_data / "books").rglob("*.txt"), key=lambda path: path.stat().st_size)[:3]:
        shutil.copy(book, tmp_path / "books")
    report = list(inspect(str(tmp_path / "books"), encoders=None))
    assert number(report[0], "documents") == 3 and number(report[1], "without a token") == 0
