"""A tokenizer that splits most words of a text is told of; one that fits is not."""

import re
import sys
from collections import Counter
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from sentemb.corpus import open_corpus, word_pieces
from sentemb.corpus.word_pieces import FEWEST, SENTENCES, WordPieces
from tests.corpus.test_line_shape import CHINESE, GERMAN, STORY

LETTERS = "abcdefghijklmnopqrstuvwxyzäöüß"


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))


def wordpiece(text: str) -> Tokenizer:
    """The words of a text, and all letters."""
    words = sorted(set(re.findall(r"\w+", text.lower())) - set(LETTERS))
    pieces = ["[UNK]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *words]
    tokenizer = Tokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    return tokenizer


def sentences(text: str) -> list[str]:
    return re.split(r"(?<=[.!?])\s+", text.strip())


def test_german_on_an_english_vocabulary_is_noted_and_german_on_a_german_one_is_not():
    corpus = open_corpus(sentences(GERMAN), progress=False)
    note = word_pieces(corpus, wordpiece(STORY)).note
    assert "100% of the words of four letters or more" in note and "Koffer" in note
    assert not word_pieces(corpus, wordpiece(GERMAN)).note


def test_the_words_are_those_of_a_slow_count():
    corpus, tokenizer = open_corpus(sentences(STORY), progress=False), wordpiece(" ".join(STORY.split()[::2]))
    words = [word for word in re.findall(r"[a-zA-Z]+", STORY) if len(word) >= 4]
    split = Counter(word for word in words if len(tokenizer.encode(word).ids) >= 3)
    measured = word_pieces(corpus, tokenizer)
    assert (measured.words, measured.split) == (len(words), split.total()) and 0 < split.total() < len(words)
    assert list(measured.examples) == sorted(split, key=lambda word: (-split[word], word))[:3]


def test_the_space_before_a_word_is_no_piece():
    spaced = Tokenizer(models.BPE({"▁": 0, "a": 1, "aa": 2, "aaaa": 3}, [("a", "a"), ("aa", "aa")]))
    spaced.pre_tokenizer = pre_tokenizers.Metaspace()
    corpus = open_corpus(["aaaa aaaaaa aaaaaaa"] * 40, progress=False)  # pieces: 1, 2 and 3
    assert word_pieces(corpus, spaced) == WordPieces(120, 40, ("aaaaaaa",))


def test_at_most_so_many_sentences_are_looked_at_and_the_same_ones_each_time():
    corpus = open_corpus([f"word {'abcdefgh'[i % 8] * 5}" for i in range(2 * SENTENCES)], progress=False)
    tokenizer = wordpiece("word aaaaa ccccc")
    first, other = word_pieces(corpus, tokenizer), word_pieces(corpus, tokenizer, seed=1)
    assert first == word_pieces(corpus, tokenizer) and first.words == 2 * SENTENCES and first.split != other.split
    assert abs(first.split - 0.75 * SENTENCES) < 0.05 * SENTENCES


@pytest.mark.parametrize(("words", "split", "noted"), [(FEWEST - 1, FEWEST - 1, 0), (300, 100, 0), (300, 101, 1)])
def test_the_note_is_for_more_than_a_third_of_enough_words(words, split, noted):
    assert bool(WordPieces(words, split, ("x",)).note) == noted


def test_text_without_spaces_between_words_is_not_judged():
    corpus = open_corpus([part for part in CHINESE.split("。") if part], progress=False)
    assert word_pieces(corpus, wordpiece(STORY)) == WordPieces(0, 0, ())


def test_what_was_counted_is_read_again_and_counted_again_where_it_is_damaged(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(STORY * 30)
    corpus = open_corpus(str(tmp_path / "a.txt"))
    first = word_pieces(corpus, wordpiece(STORY))
    (file,) = corpus.folder.glob("word-pieces-*.json")
    other = word_pieces(corpus, wordpiece(GERMAN))
    assert other != first and len(list(corpus.folder.glob("word-pieces-*.json"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["sentemb.corpus.word_pieces"], "_counted", lambda *_: None)
        assert word_pieces(corpus, wordpiece(STORY)) == first
    for content in ("", "[]", '{"words": "x"}'):
        file.write_text(content)
        assert word_pieces(corpus, wordpiece(STORY)) == first
