"""Tables as spreadsheets of several countries save them, and messages that say what to type."""

import codecs
import json
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

from sentemb.corpus import open_corpus
from sentemb.errors import InputError

TEXTS = [
    "Der Zug hielt; niemand wusste, warum.",
    'Sie sagte: "Zürich, |endlich|."',
    "Zwei\nZeilen\tund ein Sprung.",
    "NA",
]
CLEAN = [" ".join(text.split()) for text in TEXTS]


@pytest.fixture(autouse=True)
def temporary_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))


def put(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(delimiter: str, header: tuple[str, ...] = ("id", "text", "more")) -> str:
    rows = [header, *(("1", text, "x") for text in TEXTS)]
    return "".join(delimiter.join('"' + cell.replace('"', '""') + '"' for cell in row) + "\n" for row in rows)


ENCODINGS = {
    "utf-8": str.encode,
    "BOM": lambda text: codecs.BOM_UTF8 + text.encode(),
    "utf-16": lambda text: text.encode("utf-16"),
    "cp1252": lambda text: text.encode("cp1252"),
    "CRLF": lambda text: text.replace("\n", "\r\n").encode(),
}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_delimiter_and_encoding_of_a_spreadsheet_are_seen(suffix, delimiter, encoding, tmp_path):
    path = put(tmp_path / f"x{suffix}", ENCODINGS[encoding](table(delimiter)))
    assert open_corpus(path, progress=False).sentences(slice(None)) == CLEAN


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_so_are_those_of_labelled_rows_and_local_data_sets(delimiter, encoding, tmp_path):
    path = put(tmp_path / "x.csv", ENCODINGS[encoding](table(delimiter, ("n", "anchor", "positive"))))
    labelled = open_corpus(f"labelled:path={path}", progress=False)
    assert labelled.sentences(slice(0, 4)) == [CLEAN[0], "x", CLEAN[1], "x"]
    assert open_corpus(f"hub:name={path},column=anchor", progress=False).sentences(slice(None)) == CLEAN


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_one_column_needs_no_delimiter(suffix, tmp_path):
    path = put(tmp_path / f"x{suffix}", "text\nOne; two; three.\nFour | five.\n")
    assert open_corpus(path, progress=False).sentences(slice(None)) == ["One; two; three.", "Four | five."]


@pytest.mark.parametrize("name", ["x.csv", "a, b.csv", "x.jsonl", "x.json", "x.parquet"])
@pytest.mark.parametrize("kind", ["table:path=", "hub:name=", ""])
def test_what_the_message_says_to_type_works(kind, name, tmp_path):
    rows = [{"nr": i, "kind": "a", "Satz, lang": text} for i, text in enumerate(CLEAN)]
    path = tmp_path / name
    if name.endswith("csv"):
        put(path, table(";", ("nr", "Satz, lang", "kind")))
    elif name.endswith("parquet"):
        import pandas as pd

        pd.DataFrame(rows).to_parquet(path)
    else:
        put(path, codecs.BOM_UTF8 + "".join(json.dumps(row) + "\n" for row in rows).encode())
    spec = f'{kind}"{path}"' if kind else str(path)
    with pytest.raises(InputError, match="has no text column 'text'; its columns: nr ") as caught:
        open_corpus(spec, progress=False)
    (advice,) = re.findall(r"--corpus (.+)", str(caught.value))
    (typed,) = shlex.split(advice)
    assert 'column="Satz, lang"' in typed
    assert open_corpus(typed, progress=False).sentences(slice(None)) == CLEAN


def test_what_the_message_on_labelled_rows_says_to_type_works(tmp_path):
    path = put(tmp_path / "a b.csv", table(";", ("nr", "frage", "antwort")))
    with pytest.raises(InputError, match="no text column 'question'; its columns: nr .*, frage .*, antwort") as caught:
        open_corpus(f"labelled:path={path},anchor=question", progress=False)
    (typed,) = shlex.split(str(caught.value).rpartition("--corpus ")[2])
    assert open_corpus(typed, progress=False).sentences([0, 1]) == [CLEAN[0], "x"]
    single = put(tmp_path / "one.csv", "nr;satz\n1;Eins.\n2;Zwei.\n")
    for options in ("", ",anchor=satz,positive=antwort"):
        with pytest.raises(InputError, match="satz") as caught:
            open_corpus(f"labelled:path={single}{options}", progress=False)
        (typed,) = shlex.split(str(caught.value).rpartition("--corpus ")[2])
        assert open_corpus(typed, progress=False).sentences(slice(None)) == ["Eins.", "Zwei."]


def test_a_missing_document_or_class_column_names_the_option(tmp_path):
    path = put(tmp_path / "x.csv", table(";"))
    with pytest.raises(
        InputError, match="no column 'book'; its columns: id .*, text .*; give one of them as document="
    ):
        open_corpus(f"table:path={path},document=book", progress=False)
    with pytest.raises(InputError, match="no column 'head'; its columns: id .*, text .*; give one of them as title="):
        open_corpus(f"table:path={path},title=head", progress=False)
    with pytest.raises(InputError, match="no column 'kind'; its columns: .* give one of them as label="):
        open_corpus(f"labelled:path={path},label=kind", progress=False)


ROWS = [
    {"page": "a", "head": "First things", "text": "One here. Two here."},
    {"page": "a", "head": "First things", "text": "Three am."},
    {"page": "a", "head": " Second\nthings ", "text": "Four is."},
    {"page": "a", "head": None, "text": "Five was."},
    {"page": "b", "head": None, "text": "Six were. Seven am."},
    {"page": "c", "head": "Second things", "text": "Eight are."},
]


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".parquet"])
def test_titles_of_a_column_become_sentences_that_the_corpus_lists(suffix, tmp_path, monkeypatch):
    import pandas as pd

    path, frame = tmp_path / f"rows{suffix}", pd.DataFrame(ROWS)
    if suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        (frame.to_csv if suffix == ".csv" else frame.to_parquet)(path, index=False)
    plain = open_corpus(f"table:path={path},document=page,split_sentences=true", progress=False)
    assert plain.titles.tolist() == []
    spec = f"table:path={path},document=page,title=head,split_sentences=true"
    for corpus in (open_corpus(spec, progress=False), open_corpus(spec, progress=False)):
        texts, ends = corpus.sentences(slice(None)), corpus.documents.tolist()
        assert texts[:4] == ["First things", "One here.", "Two here.", "Three am."]
        assert [texts[row] for row in corpus.titles] == ["First things", "Second things", "Second things"]
        assert texts[4:7] == ["Second things", "Four is.", "Five was."] and texts[9:] == ["Second things", "Eight are."]
        assert ends == [0, 7, 9, 11] and corpus.fingerprint != plain.fingerprint
    rows = open_corpus(f"table:path={path},title=head,split_sentences=true", progress=False)
    assert [rows.sentences([row])[0] for row in rows.titles] == ["First things"] * 2 + ["Second things"] * 2
    assert len(rows.documents) == 7  # each row is a document
    both = open_corpus(f"table:path={path},title=head,split_sentences=true + {spec}", progress=False)
    assert both.titles.tolist() == [*rows.titles, *(len(rows) + np.array([0, 4, 9]))]
    (both.folder / "titles.npy").unlink()  # as earlier versions have prepared corpora
    assert open_corpus(f"table:path={path},title=head,split_sentences=true + {spec}").titles.tolist() == []


def test_a_title_stands_before_the_rows_it_is_of(tmp_path):
    path = put(tmp_path / "x.csv", "text,head\nOne.,A\nTwo.,A\nThree.,B\n,\nFour.,B\nFive.,B\n")
    corpus = open_corpus(f"table:path={path},title=head", progress=False)
    assert corpus.sentences(slice(None)) == ["A", "One.", "Two.", "B", "Three.", "B", "Four.", "Five."]
    assert corpus.titles.tolist() == [0, 3, 5] and corpus.documents.tolist() == [0, 5, 8]
