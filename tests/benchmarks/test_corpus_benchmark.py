"""The books of benchmarks/corpus.py: their size, shape and words, and that a seed gives the same ones."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.corpus import book, vocabulary, write_books, write_sentences
from sentemb.corpus.books import paragraphs

SIZE = 2_000_000


@pytest.fixture(scope="module")
def books(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("books")
    write_books(folder, SIZE)
    return folder


def contents(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted(folder.iterdir())]


def test_the_size_is_what_was_asked_for_and_the_same_seed_gives_the_same_bytes(books, tmp_path):
    assert sum(map(len, contents(books))) == pytest.approx(SIZE, rel=0.05)
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        write_books(tmp_path / str(seed), SIZE, seed)
    assert contents(tmp_path / "0") == contents(books) != contents(tmp_path / "1")
    assert (books / "book-00001.txt").is_file()


def test_words_are_zipf_distributed(books):
    words = re.findall(r"[^\W\d_]+", b" ".join(contents(books)).decode().lower())
    counts = np.array(sorted(Counter(words).values(), reverse=True))
    ranks = np.array([10, 30, 100, 300, 1000, 3000])
    slope = np.polyfit(np.log(ranks), np.log(counts[ranks - 1]), 1)[0]
    assert -1.3 < slope < -0.8
    assert 0.03 < counts[0] / len(words) < 0.08
    assert 3.8 < np.mean([len(word) for word in words]) < 4.6
    assert len(set(vocabulary().pieces.tolist())) > 70_000


def test_books_have_chapters_paragraphs_and_dialogue(books):
    for text in contents(books):
        book_paragraphs = paragraphs(text.decode().replace("\r\n", "\n"))
        assert "CHAPTER I" in book_paragraphs and len(text) / 60_000 < sum(
            part.startswith("CHAPTER ") for part in book_paragraphs
        )
        dialogue = [part for part in book_paragraphs if '"' in part or "“" in part]
        assert 0.25 < len(dialogue) / len(book_paragraphs) < 0.45
        assert all(part.count("“") == part.count("”") and part.count('"') % 2 == 0 for part in dialogue)
        assert re.search(r'[,?!.]["”] (said|asked|cried|replied) [A-Z]\w*\.', " ".join(book_paragraphs))
        lines = text.decode().splitlines()
        assert max(map(len, lines)) <= 72 or max(map(len, lines)) > 500  # wrapped, or a paragraph a line


def test_books_come_in_several_forms():
    made = [book(0, number, 60_000) for number in range(1, 40)]
    forms = {"\r\n": "crlf", "“": "typographic", "é": "accents"}
    for form in forms:
        assert 1 <= sum(form.encode() in text for text in made) < len(made) / 2, forms[form]
    assert 1 <= sum(max(map(len, text.splitlines())) > 200 for text in made) < len(made) / 2
    assert b"\0" not in b"".join(made)


def test_each_hundredth_book_is_nearly_a_copy():
    def parts(number: int) -> set[bytes]:
        return set(book(0, number, 10_000_000).replace(b"\r\n", b"\n").split(b"\n\n"))

    copy = parts(100)
    shared = [len(copy & parts(number)) / len(copy) for number in range(1, 100)]
    assert 0.95 < max(shared) < 1
    assert sorted(shared)[-2] < 0.2


def test_sentences_are_one_a_line_in_lower_case(tmp_path):
    for name in ("a", "b"):
        write_sentences(tmp_path / name, 300_000)
    text = (tmp_path / "a").read_text(encoding="utf-8")
    assert text == (tmp_path / "b").read_text(encoding="utf-8") == text.lower()
    assert len(text) == pytest.approx(300_000, rel=0.05)
    lines = text.splitlines()
    assert all(lines) and 10 < np.mean([len(line.split()) for line in lines]) < 22
    assert all(re.search(r"( [.?!]| \.\.\.)( '')?$", line) for line in lines)
    assert 0.004 < 1 - len(set(lines)) / len(lines) < 0.05  # short ones come again
