"""Books as sentences: each kind of place where one may end, what is no part of a book, and time linear in length."""

import gzip
import lzma
import os
import time
import tracemalloc
from functools import cache
from pathlib import Path

import pyarrow
import pytest

from sentemb.corpus.books import book_text, paragraphs
from sentemb.corpus.readers import text_files
from sentemb.corpus.readers.text_files import lines, read_book, reading
from sentemb.corpus.sentences import LONGEST, split_sentences
from sentemb.errors import InputError

# each case is its sentences: joined by a space they are the paragraph
PLACES = {
    "dialogue": [
        ['"Is the ferry gone?" asked the boy.', '"It is."', '"Then I shall wait.', 'There is no hurry."'],
        ["“Come in!", "Sit by the fire,” said Ruth.", "“You are wet.”", "He was."],
        ["'Go home.", "Go home now,' he said.", "'I won't.'"],
        ["‘I have the key,’ said Ann.", "‘Have you the lamp?’ he asked."],
        ["She said, 'It is the dogs' dinner.", "Leave it.'", "'Twas too late."],
        ['"I never--"', '"Nonsense!" said he.'],
        ["“I only meant—”", "“You meant harm.”"],
        ['"What!--are you mad?" cried Tom.', "Nobody spoke."],
        ['"He looked at me.', "George never does.", 'I am ill."'],
        ['"Who is there?"--the voice shook--"Is it you?"', "It was."],
    ],
    "abbreviations": [
        ["Mr. Brown saw Mrs. Hale at St. Ives.", "Dr. Moss was out."],
        ["Mr. Will and Mrs. Still came with Dr. Back.", "They stayed."],
        ["Capt. Smith, Lieut. Dale and Prof. Ames dined with Messrs. Lane and Gray.", "The Rev. Mr. Hale did not."],
        ["He lives at No. 5, not at No. 12.", "No.", "She is sure."],
        ["Bring tools, i.e. Hammers, and fruit, e.g. Apples.", "We start at 5 a.m. and stop at 9 p.m."],
        ["The U.S. Army came in May.", "The town was glad."],
        ["It was I.", "Nobody told me.", "Mary was ill.", "We said no.", "Frank said yes."],
        ["It is so.[12]", "The rest is guessed.[3]"],
    ],
    "ellipses": [
        ["Well . . . perhaps.", "Well... perhaps not."],
        ['"I don\'t know . . ."', "He stopped."],
        ["She waited…", "Nobody came… and then the bell rang."],
        ["The road was long....", "The night was longer..."],
        ["He was gone...", "The house stood dark."],
        ["And then...", ""],
    ],
    "initials": [
        ["J. R. Smith and A. B. Cole met at noon.", "T. H. Dunn came late."],
        ['"I wrote to J. R. Smith."', '"And?"', '"And to L. Cole."'],
    ],
    "quotes after full stops": [
        ['He said "no."', "Then he left."],
        ["'Well.'", "She smiled."],
        ["(He was late.)", "She wasn't."],
        ["He came (and so soon!) and went.", "[The door was shut.]", "Poor man."],
        ["She read “Mind the step.”", "“I do,” she said."],
        ['He had read: "I am well.', 'Come."', "He went."],
        ["\"He cried, 'Stop!'\"", "We stopped."],
    ],
    "headings": [
        ["CHAPTER IV. IN WHICH A LETTER COMES. AND GOES"],
        ["Chapter 3. The Mill"],
        ["BOOK THE SECOND. THE RIVER"],
        ["XII. The Miller's Wife"],
        ["I. The Beginning"],
        ["Vol. II. The End"],
        ["PART ONE: A WALK"],
    ],
}
CASES = [
    pytest.param([s for s in sentences if s], id=f"{kind} {i}")
    for kind in PLACES
    for i, sentences in enumerate(PLACES[kind])
]


@pytest.mark.parametrize("sentences", CASES)
def test_sentences_end_where_a_reader_ends_them(sentences):
    assert split_sentences(" ".join(sentences)) == sentences


VERSE = """\
The river runs below the hill,
  The wind is in the corn;
And all the house is cold. So still
A house I have not known

Since I was born. The river said,
"Be slow! Be slow and deep,"
he said."""


@pytest.mark.parametrize(
    "around", ["", "The lamp burned low in the long room and nobody came to trim it, " * 20 + "then."]
)
def test_verse_is_cut_by_its_full_stops_and_not_by_its_lines(around):
    text = f"{around}\n\n{VERSE}\n\n{around}"
    assert [s for p in paragraphs(text) for s in split_sentences(p) if not s.startswith("The lamp")] == [
        "The river runs below the hill, The wind is in the corn; And all the house is cold.",
        "So still A house I have not known",
        "Since I was born.",
        'The river said, "Be slow!',
        'Be slow and deep," he said.',
    ]


def test_headings_stand_alone():
    text = """\
CHAPTER IV
It was late, and the
rain fell.

XII

"Come," he said, "or
we are lost."

I.
There was once a man.

CHAPTER V.
THE MILL

The mill stood."""
    assert paragraphs(text) == [
        "CHAPTER IV",
        "It was late, and the rain fell.",
        "XII",
        '"Come," he said, "or we are lost."',
        "I.",
        "There was once a man.",
        "CHAPTER V. THE MILL",
        "The mill stood.",
    ]


def test_illustrations_are_no_paragraphs():
    text = "He lit the lamp and\n\n[Illustration: THE LAMP.\nFrom a drawing]\n\nsat down.\n\n[Illustration]\n\nHe read."
    assert paragraphs(text) == ["He lit the lamp and sat down.", "He read."]


# ---- Project Gutenberg ----

STORY = "\n\nTHE MILL\n\nIt stood by the river.\n\nNobody lived there.\n\n"
FRONT = "The Project Gutenberg EBook of The Mill, by Nobody\n\nThis eBook is for the use of anyone.\n\n"
STARTS = [
    "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***",
    "*** START OF THIS PROJECT GUTENBERG EBOOK THE MILL ***",
    "***START OF THE PROJECT GUTENBERG EBOOK THE MILL***",
    "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL:\nA STORY OF THE RIVER ***",
    "*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*",
    "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\n\nProduced by A. Reader and\nthe readers of books",
    "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\nE-text prepared by Us\n\nTranscriber's Note:\n\nAll is kept.",
    "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\n[Transcriber's note: words are\n\nkept as they were.]",
    "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\n+-----+\n| Transcriber's Note |\n| All is kept. |\n+-----+",
    "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\nThis eBook was produced by A. Reader.",
    "*** START OF THE PROJECT GUTENBERG EBOOK ***\n\n[Illustration: Cover]\n\nTranscribed from the 1890 edition",
]
STOPS = [
    "*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***",
    "***END OF THIS PROJECT GUTENBERG EBOOK THE MILL***",
    "End of Project Gutenberg's The Mill, by Nobody\n\n*** END OF THIS PROJECT GUTENBERG EBOOK THE MILL ***",
    "End of the Project Gutenberg EBook of The Mill, by Nobody",
    "End of The Project Gutenberg Etext of The Mill",
]


@pytest.mark.parametrize("licence", ["\n\nSection 1. General terms.", "\n\nSection 1. General terms." * 100])
@pytest.mark.parametrize("stop", STOPS)
@pytest.mark.parametrize("start", STARTS)
def test_what_project_gutenberg_puts_around_a_book_is_left_out(start, stop, licence):
    text = FRONT + start + STORY + stop + licence
    assert book_text(text).split() == STORY.split()
    assert book_text(text, keep_matter=True) == text


@pytest.mark.parametrize(
    "text",
    [
        STORY,
        STORY + "He read: *** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***\n\nIt was a book." + STORY,
        STORY * 900 + "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***" + STORY * 900,
        STORY * 900 + "*** END OF THE PROJECT GUTENBERG EBOOK THE MILL ***" + STORY * 900,
        STORY + "They had come to the\nend of Project Gutenberg's list." + STORY,
        STORY * 9 + "*** START OF THE PROJECT GUTENBERG EBOOK THE MILL ***" + STORY,
        "",
    ],
)
def test_a_book_that_only_mentions_them_stays_whole(text):
    assert book_text(text) == text


# ---- no word is lost, time and memory ----

SIZE = 100_000
ORDINARY = 'She went home. "Nobody saw me," said Mr. Brown, and he was right. It rained (a little) all day. '
HARD = {
    "no full stop": "word and then ",
    "a full stop after each word": "Word. ",
    "only quotes": '"',
    "only spaced quotes": "' ",
    "curly quotes": "“”",
    "only dots": ".",
    "only ellipses": "... ",
    "spaced dots": ". ",
    "unbalanced quotes": 'He said, "',
    "unbalanced brackets": "(no [yes ",
    "dashes in quotes": '-" "',
    "no white space": "x",
    "white space": " ",
    "titles": "Mr. ",
    "numerals": "IX",
    "addresses": "a@",
    "marks": "?! ",
}


def seconds(paragraph: str) -> float:
    start = time.process_time()
    for part in paragraphs(paragraph):
        split_sentences(part)
    return time.process_time() - start


@cache
def ordinary() -> float:
    return min(seconds(ORDINARY * (SIZE // len(ORDINARY))) for _ in range(3))


@pytest.mark.parametrize("kind", HARD)
def test_time_is_linear_in_the_length_of_a_paragraph(kind):
    text = HARD[kind] * (SIZE // len(HARD[kind]))
    assert min(seconds(text) for _ in range(2)) < 15 * ordinary() + 0.05  # (quadratic: hundreds of times)
    assert max(map(len, split_sentences(text)), default=0) <= LONGEST


@pytest.mark.parametrize("kind", [*HARD, "ordinary"])
@pytest.mark.parametrize("length", [100, 1000, LONGEST - 1, 3 * LONGEST])
def test_no_word_is_lost_and_order_is_kept(kind, length):
    text = (HARD.get(kind, ORDINARY) * length)[:length]
    source_chars, sentence_chars = iter("".join(text.split())), "".join("".join(split_sentences(text)).split())
    assert all(char in source_chars for char in sentence_chars)  # in order: each is looked for behind the one before
    assert [c for c in sentence_chars if c.isalpha()] == [c for c in text if c.isalpha()]


@pytest.mark.parametrize(
    "text", ["\n" * 5_000_000, " \n" * 2_500_000, ORDINARY * 50_000], ids=["empty", "blank", "a line"]
)
def test_paragraphs_take_a_small_multiple_of_the_text(text):
    tracemalloc.start()
    start = time.process_time()
    paragraph_texts = paragraphs(text)
    taken, peak = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(paragraph_texts) == bool(text.strip()) and taken < 5 and peak < 5 * len(text)


# ---- files ----


def zstd(content: bytes) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with pyarrow.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(content)
    return bytes(sink.getvalue())


PACKERS = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "zstd": zstd}


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "cp1252"])
def test_packed_files_are_read_whatever_their_name(kind, encoding, tmp_path):
    content = "A café.\r\nIt was shut.\rNobody came.\n" * 10_000
    path = put(tmp_path / "book.txt", PACKERS[kind](content.encode(encoding)))
    with reading(path) as file:
        assert file.read() == "A café.\nIt was shut.\nNobody came.\n" * 10_000


@pytest.mark.parametrize("kind", ["gzip", "xz", "zstd"])
@pytest.mark.parametrize("damage", ["cut", "changed"])
def test_damaged_packed_file_is_named(kind, damage, tmp_path):
    content = bytearray(PACKERS[kind](os.urandom(100_000).hex().encode()))
    if damage == "cut":
        del content[-30_000:]
    else:
        content[10:110] = bytes(100)
    path = put(tmp_path / "book", bytes(content))
    with pytest.raises(InputError, match=f"book is a damaged {kind} file"), reading(path) as file:
        file.read()


def test_missing_file_is_no_damaged_one(tmp_path):
    with pytest.raises(InputError, match="cannot be read"), reading(tmp_path / "none"):
        pass


def test_book_is_the_sentences_of_its_paragraphs(tmp_path):
    text = FRONT + STARTS[0] + STORY + VERSE + "\n\n" + STOPS[0]
    path = put(tmp_path / "book.zst", zstd(text.encode()))
    assert list(read_book(path)) == [s for p in paragraphs(book_text(text)) for s in split_sentences(p)]
    assert list(read_book(path))[:2] == ["THE MILL", "It stood by the river."]
    assert list(read_book(path, keep_matter=True))[0] == "The Project Gutenberg EBook of The Mill, by Nobody"


@pytest.mark.parametrize("between", ["\n\n", "\n", " ", "x"])
def test_large_book_is_read_in_portions(between, tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PORTION", 5000)
    inner = between.join(f"Nobody saw number {i} of the many houses by the river." for i in range(1000))
    path = put(
        tmp_path / "book", (FRONT + STARTS[0] + "\n\n" + inner + "\n\n" + STOPS[0] + "\n\nLicence. " * 40).encode()
    )
    sizes = []
    monkeypatch.setattr(text_files, "paragraphs", lambda text, language: sizes.append(len(text)) or paragraphs(text))
    characters = "".join("".join(read_book(path)).split())
    assert characters == "".join(inner.split()) and len(sizes) > 5 and max(sizes) <= 10_000


def test_line_too_long_for_a_sentence_is_left_out_and_told(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 100)
    path = put(tmp_path / "lines", b"one\n" + b"x" * 100 + b"\n\n" + b"y" * 101 + b"\n" + b"z" * 500 + b"\nlast")
    notes: list[str] = []
    with reading(path) as text:
        assert list(lines(text, "it", notes.append)) == ["one", "x" * 100, None, "last"]
    assert [note.partition(";")[0] for note in notes] == [
        f"line {n} of it is longer than 100 characters and is left out" for n in (4, 5)
    ]
    with reading(put(tmp_path / "end", b"z" * 100)) as text:
        assert list(lines(text, "it", notes.append)) == ["z" * 100] and len(notes) == 2
