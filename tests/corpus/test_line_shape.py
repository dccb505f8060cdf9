"""Raw text given as one file is read as a book and said to be one; whatever has a sentence a line is read as it was."""

import codecs
import gzip
import lzma
import textwrap
from pathlib import Path

import numpy as np
import pyarrow
import pytest

from sentemb.corpus import open_corpus
from sentemb.corpus.readers import shape_of
from sentemb.corpus.readers.line_shape import BLOCK, BLOCKS
from sentemb.storage import digests, key_of
from tests.corpus.test_corpus import FORMS, SENTENCES

STORY = """\
The ferry left the quay before anyone had counted the passengers. Old Peters stood by the rail with his hat in both \
hands, and he looked at the water as if it owed him money. Nobody spoke to him. The wind came up behind the island, \
and the gulls went home.

"You might have told me," said Anna. She had pulled her shawl about her ears, for the spray was cold, and she did not \
turn her head when he answered. It was always the same with him.

They reached the other side at nine. A boy with a lantern led them up the path, past three dark cottages and a well \
that had been dry since the spring; then he held out his palm and waited. Anna gave him a penny. He bit it, nodded, \
and ran back to the boats without a word of thanks.

The house was smaller than the letters had made it. There were two rooms below and one above, and the stove smoked. \
Still, the beds were dry. When the candle was out they lay and listened to the rain, which had found the broken tile \
over the stairs, and each of them counted the drops until sleep came.
"""
GERMAN = """\
Der Zug hielt auf freier Strecke, und niemand wusste, warum. Die Schaffnerin ging durch die Wagen und zuckte mit den \
Schultern, sobald jemand eine Frage stellte. Draußen lag der Schnee auf den Feldern. Ein alter Mann öffnete seinen \
Koffer, nahm ein Brot heraus und begann langsam zu essen. Seine Nachbarin sah ihm dabei zu.

Nach einer Stunde fuhr der Zug wieder an. Die Lampen flackerten, das Kind am Fenster lachte, und alle redeten auf \
einmal durcheinander. Keiner dachte mehr an die Kälte. Erst am Bahnhof der kleinen Stadt bemerkte der alte Mann, dass \
sein Koffer auf dem Bahnsteig der letzten Stadt geblieben war. Er lächelte nur und setzte den Hut auf.
"""
RUSSIAN = """\
Поезд остановился в поле, и никто не знал, почему это случилось. Проводница шла по вагонам и молча пожимала плечами, \
когда её спрашивали. За окном лежал снег. Старик открыл чемодан, достал хлеб и медленно начал есть, а соседка смотрела \
на него и думала о своём. Через час поезд тронулся. Лампы мигали, ребёнок у окна смеялся, и все заговорили сразу, \
будто давно были знакомы. Никто больше не вспоминал о холоде. Только на вокзале старик заметил, что \
чемодана с ним больше нет.
"""
CHINESE = (
    "火车停在田野中间没有人知道是为什么。乘务员走过车厢的时候只是耸了耸肩膀什么话也不说。外面的田野上积着厚厚的雪远处有一座小村庄。"
    "老人打开箱子拿出面包慢慢地吃了起来。坐在旁边的女人看着他想着自己的事情一句话也没有说。一个小时以后火车又开了所有的人都同时说起话来。"
    "孩子在窗边笑着指着天上的月亮。到了小城的车站老人才发现他的箱子不见了。他只是笑了笑戴上帽子走进了夜色里。"
)
VERSE = """\
the river has no memory of stones
it carries them a while
and then forgets
beneath the bridge a lantern moves
as though the dark were listening
and all along the bank the willows lean
to hear what water says
about the sea
it never saw
the boats are tied
with rope the colour of old bread
and somewhere past the mill
a dog complains
"""
HEADLINES = """\
Council votes to close three schools in the north
Heavy rain floods main road for second day
minister resigns after report on ferry contracts
Two held after robbery at jeweller's
Farmers ask for help as drought goes on
film about lighthouse keeper wins festival
Strike at port enters its fourth week
New bridge to open in spring, says mayor
Museum finds lost painting in cellar
prices of bread rise again
"""
TOKENIZED = """\
he did not answer , for the door had opened .
`` what do you want ? '' she asked .
mr. hale put down his paper .
the rain had stopped , but nobody went out .
she was twenty , and tired , and a long way from home .
`` nothing . ''
i had never seen so many boats in one place before that summer , not even at the fair .
he laughed .
then the bell rang , and they all stood up at once .
"""
TALK = """\
Where have you been?
Out.
Out where? It's past midnight.
At the harbour, looking at the boats. I lost track of the time.
You always say that.
Because it's always true.
Sit down and eat something.
I'm not hungry.
"""
POSTS = """\
so tired today, the bus was late again and then it rained
anyone know a good place for noodles near the station
that game last night... no words
finally finished the shelf, took me three weekends and one broken drill
my cat has decided that the new sofa belongs to her
Can't believe it is already November
lol same
the view from up here is worth every one of those steps
"""
LOG = "".join(f"worker {i % 7} wrote the block {i * 7919 % 90000:05} of the file in order\n" for i in range(300))
RNG, WORDS = np.random.default_rng(0), ["the", "a", "cat", "dog", "saw", "ate", "big", "red"]
RANDOM = "".join(" ".join(RNG.choice(WORDS, RNG.integers(1, 12))) + "\n" for _ in range(500))
LETTERS = "\n".join("abcdef")
LINES = {
    "verse": VERSE, "headlines": HEADLINES, "tokenized": TOKENIZED, "dialogue": TALK, "posts": POSTS, "log": LOG,
    "random words": RANDOM, "a letter a line": LETTERS, "a word a line": STORY.replace(" ", "\n"),
    "capital verse": "\n".join(line.capitalize() for line in VERSE.splitlines()),
    "sentences": "\n".join(SENTENCES), "small sentences": "\n".join(SENTENCES).lower(),
    "rows with tabs": "".join(f"{i}\t{line}\n" for i, line in enumerate(textwrap.wrap(STORY, 60))),
    "one long line among many": TOKENIZED * 20 + STORY.replace("\n", " ") + "\n" + TOKENIZED * 20,
}  # fmt: skip


def wrapped(text: str, width: int, between: str = "\n\n") -> str:
    return between.join(textwrap.fill(paragraph, width) for paragraph in text.split("\n\n"))


RAW = {
    "wrapped": wrapped(STORY, 72), "narrow": wrapped(STORY, 42), "wide": wrapped(STORY, 110),
    "no blank lines": wrapped(STORY, 68, "\n"), "small letters": wrapped(STORY.lower(), 70),
    "German": wrapped(GERMAN, 70), "Russian": wrapped(RUSSIAN, 66),
    "Chinese": "\n".join(CHINESE[i : i + 36] for i in range(0, len(CHINESE), 36)),
    "paragraphs": STORY, "paragraphs without blank lines": STORY.replace("\n\n", "\n"), "German paragraphs": GERMAN,
    "one line": STORY.replace("\n\n", " "), "Chinese paragraph": CHINESE,
}  # fmt: skip


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("copies", [1, 600])
def test_a_sentence_a_line_is_seen_as_that(kind, copies, tmp_path):
    assert shape_of(put(tmp_path / "a.txt", (LINES[kind] + "\n") * copies)) == "sentences"


@pytest.mark.parametrize("kind", RAW)
@pytest.mark.parametrize("copies", [1, 600])
def test_raw_text_is_seen_as_that(kind, copies, tmp_path):
    content = (RAW[kind] + "\n\n") * copies
    assert copies == 1 or len(content.encode()) > BLOCKS * BLOCK  # (so that it is read in places)
    paragraphs = "paragraph" in kind or kind == "one line"
    assert shape_of(put(tmp_path / "a.txt", content)) == ("paragraphs" if paragraphs else "wrapped")


def test_a_book_of_parts_wrapped_at_two_widths_is_wrapped(tmp_path):
    content = "\n\n".join([wrapped(STORY, 74)] * 300 + [wrapped(STORY, 52)] * 300)
    assert shape_of(put(tmp_path / "a.txt", content)) == "wrapped"


PACKINGS = {
    "plain": bytes,
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": lambda content: pyarrow.compress(content, "zstd", asbytes=True),
    "BOM": lambda content: codecs.BOM_UTF8 + content,
    "utf-16": lambda content: content.decode().encode("utf-16"),
    "CRLF": lambda content: content.replace(b"\n", b"\r\n"),
    "CR": lambda content: content.replace(b"\n", b"\r"),
    "cp1252": lambda content: content.decode().encode("cp1252"),
}


@pytest.mark.parametrize("packing", PACKINGS)
def test_packing_and_encoding_change_nothing(packing, tmp_path):
    for text, shape in ((wrapped(GERMAN, 70), "wrapped"), (GERMAN, "paragraphs"), (TALK, "sentences")):
        assert shape_of(put(tmp_path / "a.txt", PACKINGS[packing](((text + "\n\n") * 30).encode()))) == shape


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_book_as_one_file_is_read_as_the_book_it_is(form, tmp_path):
    path = put(tmp_path / "book.txt", FORMS[form])
    corpus = open_corpus(path, progress=False)
    assert corpus.sentences(slice(None)) == SENTENCES
    assert len(corpus.notes) == 1 and f"{path} " in corpus.notes[0] and f"lines:path={path}" in corpus.notes[0]
    assert corpus.fingerprint == open_corpus(f"books:path={path}", progress=False).fingerprint


@pytest.mark.parametrize("kind", ["sentences", "dialogue", "verse", "tokenized"])
def test_a_sentence_a_line_has_the_key_it_had_and_no_note(kind, tmp_path):
    path = put(tmp_path / "lines.txt", LINES[kind])
    corpus = open_corpus(path, progress=False)
    assert corpus.fingerprint == key_of("lines", *digests([path]), "") and not corpus.notes
    assert corpus.sentences(slice(None)) == LINES[kind].splitlines()


def test_lines_and_books_are_read_as_they_are_called(tmp_path):
    path = put(tmp_path / "a, b.txt", wrapped(STORY, 60))
    (note,) = open_corpus(path, progress=False).notes
    spec = note[note.index("lines:path=") :].removesuffix(" reads a sentence a line")
    as_lines = open_corpus(spec, progress=False)
    assert as_lines.sentences(slice(2)) == textwrap.wrap(STORY.split("\n\n")[0], 60)[:2] and not as_lines.notes
    talk = put(tmp_path / "talk.txt", TALK)
    assert open_corpus(f"books:path={talk}", progress=False).sentences([2, 3]) == ["Out where?", "It's past midnight."]


def test_each_raw_file_of_several_is_noted(tmp_path):
    book, talk = put(tmp_path / "book.txt", STORY), put(tmp_path / "talk.txt", TALK)
    corpus = open_corpus(f"{talk} + {book}*2", progress=False)
    assert len(corpus.notes) == 1 and "has a paragraph a line" in corpus.notes[0] and str(book) in corpus.notes[0]


def test_packed_tables_are_still_refused_and_unreadable_files_told_of_once(tmp_path):
    table = put(tmp_path / "a.csv.gz", gzip.compress(("text\n" + STORY).encode()))
    for path, message in ((table, "packed table"), (put(tmp_path / "b.txt", b"\0" * 50), "not plain text")):
        with pytest.raises(Exception, match=message):
            open_corpus(path, progress=False)
