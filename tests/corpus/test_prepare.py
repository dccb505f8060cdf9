"""Preparation: the same corpus in one process or several, in one go or after being killed, from any kind of file."""

import gzip
import json
import lzma
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from filelock import FileLock
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from sentemb.corpus import Corpus, cleaning, open_corpus
from sentemb.corpus import tokens as token_arrays
from sentemb.corpus.prepare import shards, tokenize, word_cache
from sentemb.corpus.readers import text_files
from sentemb.corpus.readers.boundaries import is_boundary
from sentemb.corpus.readers.text_files import LONGEST_LINE
from sentemb.corpus.sentences import clean
from sentemb.errors import InputError
from sentemb.storage import build_once, cache_dir, digests

WORDS = ["the", "old", "house", "stood", "at", "end", "of", "lane", "where", "nobody", "had", "lived", "for", "twenty",
         "years", "and", "then", "he", "heard", "a", "step"]  # fmt: skip


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def opened(spec: Path | str) -> Corpus:
    return open_corpus(str(spec), progress=False)


def everything(spec: Path | str) -> list[str]:
    return opened(spec).sentences(slice(None))


def in_documents(corpus: Corpus) -> list[list[str]]:
    return [corpus.sentences(slice(a, b)) for a, b in zip(corpus.documents, corpus.documents[1:], strict=False)]


def some_sentences(count: int, seed: int = 0) -> list[str]:
    rng = random.Random(seed)
    return [f"{' '.join(rng.choices(WORDS, k=rng.randint(2, 9))).capitalize()} {n}." for n in range(count)]


def some_books(folder: Path, books: int = 12, sentences: int = 400) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(books):
        text = "\n\n".join(" ".join(some_sentences(4, 1000 * number + i)) for i in range(sentences // 4))
        (folder / f"{number:03}.txt").write_text(f"CHAPTER {number}\n\n{text}\n")
    return folder


def tokenizer() -> Tokenizer:
    made = Tokenizer(models.WordPiece({w: i for i, w in enumerate(["[UNK]", ".", *WORDS, *"0123456789"])}))
    made.normalizer = normalizers.BertNormalizer()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return made


def content(corpus: Corpus) -> dict[str, bytes]:
    """All files of a prepared corpus and of its tokens."""
    corpus.tokens(tokenizer(), 12)
    return {str(p.relative_to(corpus.folder)): p.read_bytes() for p in corpus.folder.rglob("*") if p.is_file()}


SMALL = """
import sys
from pathlib import Path
from sentemb.corpus import open_corpus
from sentemb.corpus.prepare import parallel, shards, tokenize
from sentemb.corpus.readers import text_files
from tests.corpus.test_prepare import content
parallel.WORTH, text_files.PART, tokenize.UNIT = 0, 30_000, 500
if not Path(sys.argv[1]).is_dir():  # (it is prepared in this very process)
    shards.SHARD, shards.CHUNK, tokenize.CHUNK = 10_000, 100, 100
content(open_corpus(sys.argv[1], progress=False))
"""


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many parts and units of little text."""
    monkeypatch.setattr(text_files, "PART", 30_000)
    monkeypatch.setattr(tokenize, "UNIT", 500)


@pytest.fixture
def many_shards(small: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several shards in a part, too."""
    monkeypatch.setattr(shards, "SHARD", 10_000)
    monkeypatch.setattr(shards, "CHUNK", 100)
    monkeypatch.setattr(tokenize, "CHUNK", 100)


def start(spec: Path, cache: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"SENTEMB_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-c", SMALL, str(spec)], env=environment, stderr=subprocess.PIPE, text=True,
        start_new_session=True, cwd=Path(__file__).parents[2],
    )  # fmt: skip


# ---- one process or several, killed or not ----


def killed(spec: Path, cache: Path, pattern: str, least: int) -> None:
    """``kill -9`` of all processes of a preparation as soon as so many of its files are there."""
    process = start(spec, cache)
    while len(list(cache.glob(pattern))) < least:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_a_killed_preparation_of_several_processes_goes_on_to_what_one_makes(tmp_path, small, cache, monkeypatch):
    books = some_books(tmp_path / "books")
    expected = content(opened(books))
    assert sum(name.endswith(".arrow") for name in expected) > 3
    other = tmp_path / "other"
    killed(books, other, "corpora/.*.making/*.arrow", 2)
    killed(books, other, "corpora/*/.*.making/*.ids", 3)  # the next one goes on, and is killed at its tokens
    monkeypatch.setenv("SENTEMB_CACHE", str(other))
    assert content(opened(books)) == expected


def test_a_killed_preparation_of_one_packed_file_goes_on_to_the_same_result(tmp_path, many_shards, cache, monkeypatch):
    path = tmp_path / "lines.gz"
    path.write_bytes(gzip.compress("\n".join(some_sentences(20_000)).encode()))
    expected = content(opened(path))
    assert sum(name.endswith(".arrow") for name in expected) > 10
    killed(path, tmp_path / "other", "corpora/.*.making/*.arrow", 5)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "other"))
    assert content(opened(path)) == expected


def test_what_was_whole_is_not_made_again(tmp_path, small, monkeypatch, cache):
    books, made = some_books(tmp_path / "books"), []
    write = shards._write_part

    def interrupted(reader, number, folder, tell=None):
        if number == 2:
            raise KeyboardInterrupt
        return write(reader, number, folder, tell)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shards, "_write_part", interrupted)
        opened(books)
    (work,) = (cache / "corpora").iterdir()
    times = {path: path.stat().st_mtime_ns for path in work.glob("*.arrow")}
    monkeypatch.setattr(shards, "_Shard", type("RecordingShard", (shards._Shard,), {"close": recording_close(made)}))
    corpus = opened(books)
    assert times and all((corpus.folder / path.name).stat().st_mtime_ns == then for path, then in times.items())
    assert made and min(made) == 2 and not list((cache / "corpora").glob(".*"))


def recording_close(made: list[int]):
    def close(self, notes, last):
        made.append(int(self._path.name[:5]))
        super(type(self), self).close(notes, last)

    return close


def test_two_runs_at_once_one_prepares_the_other_waits(tmp_path, small):
    books = some_books(tmp_path / "books")
    runs = [start(books, tmp_path / "cache") for _ in range(2)]
    assert [run.wait() for run in runs] == [0, 0], [run.stderr.read() for run in runs]
    assert len(list((tmp_path / "cache" / "corpora").iterdir())) == 1
    assert len(everything(books)) > 4000


def test_who_waits_says_so(tmp_path, capsys, monkeypatch):
    target = tmp_path / "cache" / "corpora" / "x"
    with build_once(target, Path.is_dir, "x", progress=False) as first:
        assert first is not None
        monkeypatch.setattr(FileLock, "acquire", refusing_once(FileLock.acquire))
        with build_once(tmp_path / "cache" / "corpora" / "y", Path.is_dir, "that corpus") as second:
            assert second is not None
    assert "waiting: another process is preparing that corpus" in capsys.readouterr().err


def refusing_once(acquire):
    def refuse(self, *arguments, **more):
        from filelock import Timeout

        if "timeout" in more:
            raise Timeout(self.lock_file)
        return acquire(self, *arguments, **more)

    return refuse


def test_a_full_disk_is_one_sentence_and_the_rest_is_used_later(tmp_path, small, monkeypatch, cache):
    books = some_books(tmp_path / "books")
    corpus = opened(books)
    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_text", full_after(3, shards.write_text))
        put(books / "more.txt", "One more. And another one.")
        with pytest.raises(InputError, match="disk of .* is full.*make room.*again to continue"):
            opened(books)
    with monkeypatch.context() as patch:
        patch.setattr(tokenize, "_join", full_after(0, tokenize._join))
        with pytest.raises(InputError, match="disk of .* is full"):
            corpus.tokens(tokenizer(), 12)
    assert len(opened(books)) == len(corpus) + 2 and len(corpus.tokens(tokenizer(), 12)) == len(corpus)


def full_after(times: int, write):
    left = [times]

    def full(*arguments, **more):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(28, "No space left on device")
        return write(*arguments, **more)

    return full


@pytest.mark.skipif(os.name != "posix", reason="needs RLIMIT_FSIZE")
def test_a_file_that_cannot_grow_is_a_full_disk(tmp_path, cache):
    """The system's own refusal, in a process of its own: no file above 100 kB."""
    books = some_books(tmp_path / "books")
    limited = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    limited += "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000));"
    code = (
        limited + "from sentemb.corpus import open_corpus; from tests.corpus.test_prepare import content, InputError\n"
    )
    code += "try: open_corpus(__import__('sys').argv[1], progress=False)\nexcept InputError as error: print(error)"
    completed = subprocess.run(
        [sys.executable, "-c", code, str(books)], capture_output=True, text=True, cwd=Path(__file__).parents[2],
        env=os.environ | {"SENTEMB_CACHE": str(cache)},
    )  # fmt: skip
    assert "is full" in completed.stdout and "Traceback" not in completed.stderr, completed.stderr
    assert len(everything(books)) > 4000


@pytest.mark.parametrize("damage", ["rubbish", ""])
def test_half_written_parts_are_made_anew(damage, tmp_path, small, monkeypatch, cache):
    books = some_books(tmp_path / "books")
    expected = content(opened(books))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setenv("SENTEMB_CACHE", str(tmp_path / "other"))
        patch.setattr(shards, "_assemble", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        opened(books)
    (work,) = (tmp_path / "other" / "corpora").iterdir()
    for number, path in enumerate(sorted(work.iterdir())):
        if number % 3 == 0:
            path.write_text(damage)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "other"))
    assert content(opened(books)) == expected


# ---- files of every kind ----


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


TEXT = 'one thing\ntwo things\n\nthree, "quoted" and Zoë\'s\nfour\n'
DOCUMENTS = [["one thing", "two things"], ['three, "quoted" and Zoë\'s', "four"]]


def test_every_kind_of_file_gives_the_same_documents(tmp_path):
    rows = TEXT.split("\n")[:-1]
    table = pa.table({"text": rows, "n": list(range(len(rows)))})
    pyarrow.parquet.write_table(table, tmp_path / "t.parquet")
    put(tmp_path / "t.jsonl", "".join(json.dumps({"n": n, "text": row}) + "\n" for n, row in enumerate(rows)))
    quoted = ['"' + row.replace('"', '""') + '"' for row in rows]
    put(tmp_path / "t.csv", "n,text\n" + "".join(f"{n},{row}\n" for n, row in enumerate(quoted)))
    put(tmp_path / "t.tsv", "n\ttext\n" + "".join(f"{n}\t{row}\n" for n, row in enumerate(quoted)))
    put(tmp_path / "t.lines", TEXT)
    put(tmp_path / "t.lines.gz", gzip.compress(TEXT.encode()))
    put(tmp_path / "t.lines.xz", lzma.compress(TEXT.encode()))
    put(tmp_path / "t.lines.zst", pa.Codec("zstd").compress(TEXT.encode(), asbytes=True))
    put(tmp_path / "t.cr", TEXT.replace("\n", "\r"))
    put(tmp_path / "t.utf16", TEXT.encode("utf-16"))
    for path in sorted(tmp_path.glob("t.*")):
        assert in_documents(opened(path)) == DOCUMENTS, path


def test_columns_and_whole_documents(tmp_path):
    rows = [{"book": "a", "line": "One."}, {"book": "a", "line": "Two."}, {"book": "b", "line": "Three. Four."}]
    path = put(tmp_path / "t.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    spec = f"table:path={path},column=line"
    assert in_documents(opened(spec)) == [["One.", "Two.", "Three. Four."]]
    assert in_documents(opened(spec + ",document=book")) == [["One.", "Two."], ["Three. Four."]]
    assert in_documents(opened(spec + ",split_sentences=true")) == [["One."], ["Two."], ["Three.", "Four."]]
    for wrong, message in (("", "no text column 'text'; its columns: book .*, line"), (",document=x", "no column 'x'")):
        with pytest.raises(InputError, match=message):
            opened((spec if wrong else f"table:path={path}") + wrong)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.parquet", b"PAR1 rubbish", "t.parquet cannot be read as parquet"),
        ("t.jsonl", b'{"text": "a"}\n{"text": ', "t.jsonl cannot be read as json"),
        ("t.csv", b"", "t.csv cannot be read as csv"),
        ("t.jsonl", b'{"text": 5}\n', "no text column 'text'; its columns: text"),
        ("lines.gz", b"\x1f\x8brubbish", "damaged gzip"),
        ("lines.zst", b"\x28\xb5\x2f\xfdrubbish", "damaged zstd"),
        ("lines.xz", b"\xfd7zXZ\0rubbish", "damaged xz"),
    ],
)
def test_damaged_files_are_one_sentence(name, content, message, tmp_path, cache):
    with pytest.raises(InputError, match=message):
        opened(put(tmp_path / name, content))
    assert not list((cache / "corpora").iterdir())


def test_a_plain_file_is_read_in_parallel_ranges_that_lose_and_repeat_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "PART", 1000)
    rng = random.Random(0)
    for end in ("\n", "\r\n", "\r"):
        rows = [row if rng.random() > 0.05 else "" for row in some_sentences(600)]
        rows[300] = "Zoë " * 500
        path = put(tmp_path / f"lines-{len(end)}{ord(end[0])}", end.join(rows))
        parts = text_files.line_parts(path, False)
        assert len(parts) > 10
        all_lines = list(text_files.every_line(path, False, print))
        assert [text for part in parts for text in part(print)] == all_lines
        assert [text for text in all_lines if text] == [row.strip() for row in rows if row]


def test_a_line_of_20_megabytes_is_told_and_left_out(tmp_path):
    path = tmp_path / "lines.txt"
    with path.open("w") as file:
        file.write("one\ntwo\n")
        for _ in range(20):  # (200 of them take as little memory, and longer)
            file.write("word " * 200_000)
        file.write("\nthree\n")
    corpus = opened(path)
    assert corpus.sentences(slice(None)) == ["one", "two", "three"]
    assert len(corpus.notes) == 1 and f"is longer than {LONGEST_LINE:,} characters and is left out" in corpus.notes[0]


def test_boundaries_are_where_books_begin_and_end(tmp_path):
    yes = ["chapter 12", "prologue", "* epilogue *", "copyright 2011 by me", "all rights reserved .", "isbn : 978-1",
           "the end .", "about the author", "chapter twenty-one", "published by us"]  # fmt: skip
    no = ["the chapter ended there .", "that was the end of it .", "a copyright is a right .", "he read the prologue ."]
    assert all(map(is_boundary, yes)) and not any(map(is_boundary, no))
    path = put(tmp_path / "lines", "a .\nb .\nthe end .\nprologue\nc .\nd .\n")
    assert in_documents(opened(path)) == [["a .", "b .", "the end .", "prologue", "c .", "d ."]]
    assert in_documents(opened(f"lines:path={path},boundaries=true")) == [
        ["a .", "b ."], ["the end ."], ["prologue", "c .", "d ."],
    ]  # fmt: skip


def test_a_streamed_data_set_is_the_loaded_one(tmp_path):
    (tmp_path / "set").mkdir()
    pyarrow.parquet.write_table(pa.table({"text": TEXT.split("\n")}), tmp_path / "set" / "train.parquet")
    spec = f"hub:name={tmp_path / 'set'}"
    assert in_documents(opened(spec + ",streaming=true")) == in_documents(opened(spec)) == DOCUMENTS
    assert opened(spec + ",streaming=true").fingerprint == opened(spec + ",streaming=true").fingerprint
    assert in_documents(opened(spec + ",streaming=true,rows=2")) == DOCUMENTS[:1]


# ---- several at once ----


def test_several_corpora_are_one_with_all_their_ends_held_out(tmp_path):
    first, second = (
        put(tmp_path / "a b.txt", "\n\n".join(["x\ny"] * 20)),
        put(tmp_path / "c.txt", "one\ntwo\nthree\nfour"),
    )
    corpus = opened(f"{first} + {second}*2.5")
    assert (corpus.name, corpus.weights) == ("file a b.txt + file c.txt", (1.0, 2.5))
    assert in_documents(corpus)[-2:] == [["x", "y"], ["one", "two", "three", "four"]]
    train, held = corpus.split()
    assert (len(train), held.tolist()) == (16, [[30, 32], [32, 34], [34, 36], [36, 38], [38, 40], [42, 44]])
    assert [part.tolist()[-1] for part in corpus.by_source(train)] == [[28, 30], [40, 42]]
    assert opened(f"{first} + {second}").fingerprint == corpus.fingerprint  # (weights prepare nothing)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{a} + {a}*0", "weight .* is 0"),
        ("{a} + nothing", "no file or folder has that path: 'nothing'"),
        ("{a} + labelled:path={b}", "labelled corpus stands alone"),
        ("labelled:path={b}*2", "labelled corpus stands alone, without a weight"),
        ("x" * 300, "no file or folder has that path"),
        ("{a} + {empty}", "holds no sentence .*empty"),
    ],
)
def test_several_corpora_that_do_not_go_together(spec, message, tmp_path):
    a, empty = put(tmp_path / "a.txt", "x\ny\n"), put(tmp_path / "empty", "\n")
    b = put(tmp_path / "b.jsonl", '{"anchor": "p", "positive": "q"}\n')
    with pytest.raises(InputError, match=message):
        opened(spec.format(a=a, b=b, empty=empty))


def test_the_hash_of_a_file_is_kept_until_it_is_touched(tmp_path, monkeypatch):
    path = put(tmp_path / "a.txt", "x\ny\n")
    os.utime(path, (1, 1))
    first = digests([path])
    with monkeypatch.context() as patch:
        patch.setattr("sentemb.storage.cache.digest", None)
        assert digests([path]) == first
    put(path, "x\nz\n")
    os.utime(path, (1, 1))  # the size and this time are as before
    assert digests([path]) != first
    (cache_dir() / "digests").mkdir(exist_ok=True)
    for file in (cache_dir() / "digests").iterdir():
        file.write_text("[1]")
    assert digests([path]) != first


# ---- words ----


def bpe(texts: list[str]) -> Tokenizer:
    made = Tokenizer(models.BPE(unk_token="[UNK]"))
    made.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    made.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=500, special_tokens=["[UNK]", "[CLS]", "[SEP]"],
                                                        show_progress=False))  # fmt: skip
    return made


ODD = ["", "a", "  two  spaces ", "naïve café Ⅻ", "日本 語 text", "e\u0301 x", "\u00a0nb\u00a0x", "a\u2028b c",
       "don't ... 'x'", "x" * 300 + " y", "w\u0000z", "\u200bzero", "[CLS][SEP] a[SEP]", "house,and(lane)",
       "¡Ünïcode! 1,000.50 €", "he said 日 to me", "a \ufffd b", "a \u200b b", "a \u00ad b", "a [UNK] b",
       "´a ¨ b"]  # fmt: skip


@pytest.mark.parametrize("special", [(), ("[CLS]",), ("[CLS]", "[SEP]")])
@pytest.mark.parametrize("limit", [3, 8, 1000])
@pytest.mark.parametrize("kind", ["wordpiece", "bpe"])
def test_words_looked_up_are_sentences_encoded(kind, limit, special, monkeypatch):
    texts = [*map(clean, ODD), *some_sentences(500)]
    made = tokenizer() if kind == "wordpiece" else bpe(texts)
    if special:
        made.add_special_tokens(["[CLS]", "[SEP]"])
        ids = [(name, made.token_to_id(name)) for name in special]
        made.post_processor = processors.TemplateProcessing(" ".join(["[CLS] $A", *special[1:]]), special_tokens=ids)
    made.enable_truncation(limit)
    assert word_cache.by_words(made)
    monkeypatch.setattr(word_cache, "MAX_WORDS", 100)  # forgotten and learned again
    encoder = word_cache.WordwiseTokenizer(made)
    encoder.check(texts)
    assert encoder.trusted
    for part in (texts[:5], texts, texts[100:]):
        ids, lengths = encoder.encode(part)
        expected = [encoding.ids for encoding in made.encode_batch(part)]
        assert lengths.tolist() == list(map(len, expected)) and ids.tolist() == sum(expected, [])


def test_tokenizers_that_look_beyond_a_word_encode_whole_sentences():
    made = tokenizer()
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    assert not word_cache.by_words(made)
    made = tokenizer()
    made.add_tokens(["old house"])
    assert not word_cache.by_words(made)
    for step in (pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Punctuation(), None):
        made = tokenizer()
        if step is None:
            made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(), pre_tokenizers.WhitespaceSplit()])
        else:
            made.pre_tokenizer = step
        assert not word_cache.by_words(made)


def test_a_tokenizer_that_does_not_keep_its_promise_is_found_out(monkeypatch):
    made = tokenizer()
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    monkeypatch.setattr(word_cache, "by_words", lambda _: True)
    encoder = word_cache.WordwiseTokenizer(made)
    texts = some_sentences(50)
    encoder.check(texts)
    ids, _ = encoder.encode(texts)
    assert not encoder.trusted and ids.tolist() == sum((e.ids for e in made.encode_batch(texts)), [])
    encoder.check(["the"])  # what one unit was found to be says nothing of another
    assert encoder.trusted


# ---- copies and cleaning ----


def test_keys_are_equal_for_the_same_tokens_only(monkeypatch):
    monkeypatch.setattr(token_arrays, "CHUNK", 7)
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 3, rng.integers(0, 5)).tolist() for _ in range(500)]
    tokens = token_arrays.Tokens(np.array(sum(rows, []), dtype=np.uint16), np.cumsum([0, *map(len, rows)]))
    same = tokens.distinct()[:, None] == tokens.distinct()
    assert (same == np.array([[a == b for b in rows] for a in rows])).all()


def cleaned(path: Path, spec: str, max_length: int = 20) -> tuple[list[str], dict[str, int]]:
    from sentemb.registry import build

    corpus = opened(path)
    rules = build(cleaning.CLEANINGS, spec, "clean")
    for _ in range(2):  # the second time from its file
        cleaning_result = cleaning.clean_corpus(corpus, corpus.tokens(tokenizer(), max_length), rules, 0, max_length)
    assert cleaning_result is not None
    return [
        text for text, keep in zip(corpus.sentences(slice(None)), cleaning_result.mask, strict=True) if keep
    ], cleaning_result.dropped


def test_each_rule_drops_what_it_says(tmp_path):
    text = "the house .\na\n12 34 56 .\nон жил там\nthe house .\n\nthe house .\nhe lived\nthe the the the the the\n"
    path = put(tmp_path / "lines", text)
    base = "drop:letters=0,min_tokens=0"
    assert cleaned(path, "drop:min_tokens=2,letters=0")[1] == {"under 2 tokens": 1}
    assert cleaned(path, base + ",max_tokens=5")[1] == {"over 5 tokens": 1}
    left, dropped = cleaned(path, "drop:letters=0.5,min_tokens=0,script=latin")
    assert "12 34 56 ." not in left and "он жил там" not in left
    assert dropped == {"under 0.5 letters": 1, "not in latin letters": 1}
    assert cleaned(path, base + ",script=cyrillic")[0] == ["12 34 56 .", "он жил там"]
    assert cleaned(path, base + ",duplicates=document")[1] == {"copies within the document": 1}
    left, dropped = cleaned(path, base + ",duplicates=corpus")
    assert dropped == {"copies within the corpus": 2} and left.count("the house .") == 1


def test_copies_are_found_in_bounded_memory_as_by_a_loop(tmp_path, monkeypatch):
    rng = random.Random(0)
    text = "\n".join(rng.choice(["", *WORDS]) for _ in range(3000))
    corpus = opened(put(tmp_path / "lines", text))
    tokens = corpus.tokens(tokenizer(), 9)
    rows = [tuple(tokens[row].tolist()) for row in range(len(tokens))]
    document = np.searchsorted(corpus.documents, np.arange(len(rows)), side="right").tolist()
    for within in (False, True):
        names = [(d if within else 0, row) for d, row in zip(document, rows, strict=True)]
        expected = [name in names[:number] for number, name in enumerate(names)]
        for size in (10**6, 100):
            monkeypatch.setattr(cleaning, "SORTED", size)
            assert cleaning.duplicates(corpus, tokens, within).tolist() == expected


def test_books_that_are_nearly_copies_are_found(tmp_path):
    pytest.importorskip("datasketch")
    books = some_books(tmp_path / "books", 5)
    text = (books / "001.txt").read_text().split("\n\n")
    put(books / "009.txt", "\n\n".join(text[:-4] + ["Another end. It is quite another one."]))
    corpus = opened(books)
    left, dropped = cleaned(books, "drop:letters=0,min_tokens=0,near_duplicates=0.8")
    assert dropped == {"in nearly copied documents": int(corpus.documents[-1] - corpus.documents[-2])}
    assert left == corpus.sentences(slice(0, int(corpus.documents[-2])))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("drop:min_tokens=5,max_tokens=3", "min_tokens and max_tokens"),
        ("drop:letters=2", "letters must lie"),
        ("drop:near_duplicates=1", "near_duplicates must lie"),
        ("drop:script=klingon", "unknown script 'klingon'"),
        ("drop:duplicates=all", "unknown duplicates 'all'"),
        ("drop:max_tokens=20", "drops nothing: sentences are cut"),
        ("drop:min_tokens=15", "nothing is left"),
    ],
)
def test_rules_that_cannot_be(spec, message, tmp_path):
    with pytest.raises(InputError, match=message):
        cleaned(put(tmp_path / "lines", "the house\nhe lived\n"), spec)
