"""An encoded corpus: equal to encode, copies once, in every precision and format, refused in a sentence."""

import errno
import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import load_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Normalize
from sentence_transformers.util import quantize_embeddings

import sentemb
from recipes import encode as recipe
from sentemb.corpus import open_corpus
from sentemb.encoders import load, towers_of, truncated
from sentemb.encoding import EncodedCorpus, corpus_encoder
from sentemb.encoding import writer as module
from sentemb.errors import InputError
from sentemb.storage import verify
from tests.encoding.conftest import DOCUMENTS, TEXTS

KINDS = ("static", "dense", "lstm", "gru", "transformer")


@pytest.fixture(autouse=True)
def small_windows(monkeypatch, cache):
    """Windows of ten sentences and batches of few tokens, so that a small text has many."""
    monkeypatch.setattr(module, "WINDOW", 10)
    monkeypatch.setattr(module, "WINDOW_STATIC", 10)
    monkeypatch.setattr(corpus_encoder, "BATCH_TRANSFORMER", 40)
    monkeypatch.setattr(corpus_encoder, "BATCH_RECURRENT", 40)


def close(rows, expected):
    assert rows.dtype == np.float32 and rows.shape == expected.shape
    np.testing.assert_allclose(rows, expected, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_those_of_encode(kind, models, tmp_path):
    model = models(kind)
    encoded = sentemb.encode(model, DOCUMENTS, tmp_path / "out")
    assert isinstance(np.load(tmp_path / "out" / "embeddings.npy", mmap_mode="r"), np.memmap)
    close(np.array(encoded.embeddings), model.encode(TEXTS))
    close(np.concatenate(list(encoded.blocks(7))), model.encode(TEXTS))


@pytest.mark.parametrize("settings", [{"prompt": "passage: "}, {"prompt_name": "document"}, {"prompt": ""}, {}])
def test_a_prompt_is_that_of_encode(settings, models, tmp_path, capsys):
    model = models("transformer")
    encoded = sentemb.encode(model, DOCUMENTS, tmp_path / "out", **settings)
    close(np.array(encoded.embeddings), model.encode(TEXTS, **settings))
    assert ("--prompt-name document" in capsys.readouterr().err) == (not settings)


@pytest.mark.parametrize("tower", ["f", "g", "both", None])
def test_towers_are_those_asked_for(tower, models, tmp_path):
    model = models("towers")
    f, g = towers_of(model)
    encoded = sentemb.encode(model, DOCUMENTS, tmp_path / "out", tower=tower)
    expected = {"f": f, "g": g}.get(tower, model).encode(TEXTS)
    close(np.array(encoded.embeddings), expected)
    assert encoded.meta["tower"] == (tower or "both")


@pytest.mark.parametrize("kind", ["transformer", "lstm"])
def test_fewer_dimensions_are_of_unit_length_where_the_models_are(kind, models, tmp_path):
    model = models(kind)
    encoded = sentemb.encode(model, DOCUMENTS, tmp_path / "out", truncate=5)
    full = model.encode(TEXTS)[:, :5]
    expected = full / np.linalg.norm(full, axis=1, keepdims=True) if kind == "transformer" else full
    close(np.array(encoded.embeddings), expected)


def test_a_truncated_model_of_two_towers_is_as_encode_has_it(models, tmp_path):
    model = truncated(models("towers"), 4)
    encoded = sentemb.encode(model, DOCUMENTS, tmp_path / "out")
    close(np.array(encoded.embeddings), model.encode(TEXTS))


def test_rows_that_the_model_itself_cuts_are_not_of_unit_length(models, tmp_path):
    model = models("transformer")
    model.append(Normalize())
    close(np.array(sentemb.encode(model, DOCUMENTS, tmp_path / "full").embeddings), model.encode(TEXTS))
    cut = sentemb.encode(truncated(model, 3), DOCUMENTS, tmp_path / "cut")
    close(np.array(cut.embeddings), model.encode(TEXTS)[:, :3])
    flags = [json.loads((tmp_path / each / "meta.json").read_text())["unit_length"] for each in ("full", "cut")]
    assert flags == [True, False]


def test_the_current_folder_can_be_the_one_that_is_written(models, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    sentemb.encode(models("static"), DOCUMENTS, ".")
    assert (tmp_path / "here" / "embeddings.npy").is_file()


@pytest.mark.parametrize("lengths", [[3, 9, 5], [64], [1], [2, 30, 30, 2], [63, 1, 1], [0, 0]])
def test_filler_completes_a_multiple_with_rows_that_widen_nothing(lengths):
    rows = [np.arange(length) for length in lengths]
    filler = corpus_encoder.filler_rows(rows, 8)
    added = [len(row) for row in filler]
    assert sum(lengths + added) % 8 == 0 and sum(added) < 8
    assert all(0 < length <= max(lengths) for length in added)


def test_a_transformers_batches_have_few_sizes(models, tmp_path, monkeypatch):
    sizes, plain = [], corpus_encoder.TeacherModel.embeddings

    def watched(self, features, prompt_length=0):
        sizes.append(int(features["attention_mask"].sum()))
        return plain(self, features, prompt_length)

    monkeypatch.setattr(corpus_encoder.TeacherModel, "embeddings", watched)
    monkeypatch.setattr(corpus_encoder, "BATCH_TRANSFORMER", 100)
    model = models("transformer")
    encoded = sentemb.encode(model, DOCUMENTS, tmp_path / "out")
    close(encoded.embeddings, model.encode(TEXTS))
    assert len(sizes) > 5 and set(sizes) <= {64, 128, 192}


def test_a_copy_is_embedded_once_and_knows_its_first(models, tmp_path, monkeypatch):
    embedded = []
    plain = corpus_encoder.CorpusEncoder.embed

    def counting(self, rows):
        embedded.extend(TEXTS[row] for row in rows)
        return plain(self, rows)

    monkeypatch.setattr(corpus_encoder.CorpusEncoder, "embed", counting)
    monkeypatch.setattr(module._Writer, "_tell", lambda *_: None)
    encoded = sentemb.encode(models("lstm"), DOCUMENTS, tmp_path / "out")
    assert sorted(embedded) == sorted(set(TEXTS))
    assert encoded.ids["first"].tolist() == [TEXTS.index(text) for text in TEXTS]
    assert encoded.ids["sentence"].tolist() == list(range(len(TEXTS)))
    each = [(number, place) for number, document in enumerate(DOCUMENTS) for place in range(len(document))]
    assert list(zip(encoded.ids["document"].tolist(), encoded.ids["position"].tolist(), strict=True)) == each


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "binary"])
@pytest.mark.parametrize("kind", ["numpy", "parquet", "safetensors"])
def test_every_precision_in_every_format(precision, kind, models, tmp_path):
    model, out = models("transformer"), tmp_path / "out"
    rows = np.array(sentemb.encode(model, DOCUMENTS, tmp_path / "plain").embeddings)
    encoded = sentemb.encode(model, DOCUMENTS, out, precision=precision, format=kind, text=True)
    ranges = np.stack([rows.min(0), rows.max(0)])
    expected = {
        "float32": rows,
        "float16": rows.astype(np.float16),
        "int8": quantize_embeddings(rows, "int8", ranges=ranges),
        "binary": quantize_embeddings(rows, "ubinary"),
    }[precision]
    if kind == "numpy":
        stored, ids = np.load(out / "embeddings.npy", mmap_mode="r"), np.load(out / "ids.npy", mmap_mode="r")
    elif kind == "parquet":
        table = pq.read_table(out / "embeddings.parquet")
        stored = np.stack(table["embedding"].to_numpy())
        ids = {name: table[name].to_numpy() for name in ("sentence", "document", "position", "first")}
        assert table["text"].to_pylist() == TEXTS
    else:
        ids = load_file(out / "embeddings.safetensors")
        stored = ids["embeddings"]
    assert stored.dtype == expected.dtype and np.array_equal(stored, expected)
    for name in ("sentence", "document", "position", "first"):
        assert np.array_equal(ids[name], encoded.ids[name])
    assert encoded.texts([5, 40, 5]) == [TEXTS[5], TEXTS[40], TEXTS[5]]
    decoded = np.concatenate(list(encoded.blocks(7)))
    step = {"float32": 0, "float16": 2**-11, "int8": (ranges[1] - ranges[0]).max() / 255}.get(precision)
    if step is None:
        assert np.array_equal(decoded, np.where(rows > 0, 1, -1))
    else:
        np.testing.assert_allclose(decoded, rows, atol=step * 0.51)
    verify(out)
    assert (out / "manifest.json").is_file() and not (out / "done").exists()


def test_texts_come_from_the_corpus_where_the_folder_has_none(models, text_file, tmp_path):
    encoded = sentemb.encode(models("static"), text_file, tmp_path / "out")
    assert encoded.texts([3, 0]) == [TEXTS[3], TEXTS[0]]
    text_file.write_text("Another text.\nOf two sentences.\n")
    with pytest.raises(InputError, match="not the text any more.*--text"):
        EncodedCorpus(tmp_path / "out").texts([0])


def test_names_of_classes_are_no_sentences(models, tmp_path):
    rows = [{"anchor": f"The {a} sees.", "positive": f"A {a} sees.", "label": str(i % 2)} for i, a in enumerate("abcd")]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    model = models("lstm")
    encoded = sentemb.encode(model, f"labelled:path={tmp_path / 'rows.jsonl'},label=label", tmp_path / "out")
    texts = [row[side] for row in rows for side in ("anchor", "positive")]
    assert encoded.texts(list(range(len(encoded)))) == texts
    close(np.array(encoded.embeddings), model.encode(texts))
    assert encoded.ids["first"].tolist() == list(range(8)) and encoded.ids["document"].tolist() == [
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]


def test_a_long_text_is_cut_as_encode_cuts_it(models, tmp_path):
    model = models("lstm")
    long = [["word " * 50 + "end.", "word " * 40 + "other.", "short."]]
    close(np.array(sentemb.encode(model, long, tmp_path / "out").embeddings), model.encode(long[0]))


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("kind", ["numpy", "parquet", "safetensors"])
def test_an_interrupted_encoding_goes_on_to_the_same_bytes(kind, models, text_file, tmp_path, monkeypatch):
    model = models("lstm")
    settings = {"precision": "int8", "format": kind, "text": True}
    sentemb.encode(model, text_file, tmp_path / "straight", **settings)
    plain, windows = module._Windows.rows, []

    def stopping(self, start):
        windows.append(start)
        if len(windows) % 3 == 0:
            raise KeyboardInterrupt
        return plain(self, start)

    monkeypatch.setattr(module._Windows, "rows", stopping)
    for _ in range(20):
        try:
            sentemb.encode(model, text_file, tmp_path / "out", **settings)
            break
        except KeyboardInterrupt:
            assert not (tmp_path / "out").exists()
    assert len(windows) > 10 and files(tmp_path / "out") == files(tmp_path / "straight")


def test_a_text_without_neighbours_can_be_encoded(models, tmp_path):
    model = models("gru")
    (tmp_path / "lonely.txt").write_text("One sentence.\n\nAnother one.\n\nA third.\n")
    encoded = sentemb.encode(model, tmp_path / "lonely.txt", tmp_path / "out")
    texts = ["One sentence.", "Another one.", "A third."]
    close(np.array(encoded.embeddings), model.encode(texts))
    assert encoded.texts([0, 1, 2]) == texts and encoded.ids["document"].tolist() == [0, 1, 2]
    with pytest.raises(InputError, match="no neighbour pair"):  # also where it is prepared
        open_corpus(tmp_path / "lonely.txt")
    close(np.array(sentemb.encode(model, ["Alone."], tmp_path / "one").embeddings), model.encode(["Alone."]))


def test_each_row_knows_its_file(models, text_file, tmp_path):
    (tmp_path / "books").mkdir()
    for name in "ab":
        (tmp_path / "books" / f"{name}.txt").write_text(
            f"It rained for days in {name}town. A cat sat down. Nobody saw it in {name}town."
        )
    model = models("static")
    encoded = sentemb.encode(model, f"{tmp_path / 'books'} + {text_file}", tmp_path / "out")
    expected = [*(str(tmp_path / "books" / f"{name}.txt") for name in "aaabbb"), *[str(text_file)] * len(TEXTS)]
    assert encoded.files(list(range(len(encoded)))) == expected
    (tmp_path / "books" / "empty.txt").write_text("")
    encoded = sentemb.encode(model, tmp_path / "books", tmp_path / "other")
    assert encoded.files([0, 5]) == [str(tmp_path / "books")] * 2
    assert sentemb.encode(model, DOCUMENTS, tmp_path / "third").files([0, 1]) == ["", ""]


# ---- what is refused


@pytest.fixture
def run(models, text_file, tmp_path, capsys):
    """Runs the recipe with a saved model; returns (exit code, what stands on stderr behind "error: ")."""
    models("transformer").save(str(tmp_path / "model"), create_model_card=False)

    def main(*flags: str, corpus: str | None = None, model: str | None = None) -> tuple[int, str]:
        code = 0
        try:
            recipe.main([model or str(tmp_path / "model"), corpus or str(text_file), str(tmp_path / "out"), *flags])
        except SystemExit as error:
            code = error.code
        lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
        return code, lines[0] if lines else ""

    return main


def left(tmp_path) -> list[str]:
    return sorted(path.name for path in tmp_path.iterdir() if path.name.strip(".").startswith("out"))


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--prompt-name", "passages"], "no prompt named 'passages': it has query, document"),
        (["--prompt-name", "query", "--prompt", "x"], "give one of them"),
        (["--truncate", "33"], "more than the 32 dimensions"),
        (["--truncate", "0"], "at least 1"),
        (["--tower", "g"], "leave it out"),
        (["--precision", "int4"], "precision"),
        (["--format", "csv"], "format"),
        (["--device", "abacus"], "abacus"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_a_sentence(flags, words, run, tmp_path):
    code, message = run(*flags)
    assert code == 2 and words in message and left(tmp_path) == []


def test_what_is_there_stays(run, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").write_text("mine")
    code, message = run()
    assert code == 2 and "is there already" in message
    assert left(tmp_path) == ["out"] and files(tmp_path / "out") == {"mine.txt": b"mine"}


def test_a_text_that_cannot_be_read_is_refused(run, tmp_path):
    assert run(corpus=str(tmp_path / "nowhere.txt"))[0] == 2
    (tmp_path / "bytes.txt").write_bytes(bytes(range(32)) * 50)
    code, message = run(corpus=str(tmp_path / "bytes.txt"))
    assert code == 2 and "not plain text" in message and left(tmp_path) == []
    (tmp_path / "rows.jsonl").write_text('{"text": "A sentence."}\n{"text": "Another."}\n{"text": broken\n')
    code, message = run(corpus=str(tmp_path / "rows.jsonl"))
    assert code == 2 and "rows.jsonl" in message and left(tmp_path) == []


def test_a_card_that_asks_for_a_prefix_wants_a_prompt(models, text_file, tmp_path, run):
    model = models("transformer")
    model.prompts, model.default_prompt_name = {}, None
    model.save(str(tmp_path / "plain"), create_model_card=False)
    (tmp_path / "plain" / "README.md").write_text('Each input should start with "query: " or "passage: ".')
    code, message = run(model=str(tmp_path / "plain"))
    assert code == 2 and '--prompt "passage: "' in message and left(tmp_path) == []
    assert run("--prompt", "", model=str(tmp_path / "plain"))[0] == 0


def test_prompts_without_a_default_want_a_choice(models, text_file, tmp_path):
    model = models("transformer")
    model.default_prompt_name = None
    with pytest.raises(InputError, match=r"prompts \(query, document\).*--prompt-name"):
        sentemb.encode(model, text_file, tmp_path / "out")


def test_two_towers_have_no_first_dimensions(models, text_file, tmp_path):
    with pytest.raises(InputError, match="--tower f or --tower g"):
        sentemb.encode(models("towers"), text_file, tmp_path / "out", truncate=4)


def test_a_disk_that_is_too_small_is_seen_before(run, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    code, message = run()
    assert code == 2 and "and its disk has 1 kB; make room" in message and left(tmp_path) == []


def test_a_disk_that_fills_up_leaves_what_goes_on(run, tmp_path, monkeypatch):
    plain, count = os.fsync, []

    def full(descriptor):
        count.append(descriptor)
        if len(count) == 6:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        plain(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        code, message = run()
    assert code == 2 and "is full; make room, and run the same command again to continue" in message
    assert left(tmp_path) == [".out.unfinished"]
    assert run()[0] == 0 and left(tmp_path) == ["out"]
    model = load(tmp_path / "model", device="cpu")
    close(np.array(EncodedCorpus(tmp_path / "out", check=True).embeddings), model.encode(TEXTS))


def test_an_unfinished_encoding_is_not_mixed_with_another(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(module, "append_chunks", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        assert run()[0] == 130
    before = files(tmp_path / ".out.unfinished")
    code, message = run("--precision", "float16")
    assert code == 2 and "unfinished encoding" in message
    assert left(tmp_path) == [".out.unfinished"] and files(tmp_path / ".out.unfinished") == before


def test_an_embedding_that_is_not_finite_is_refused(models, text_file, tmp_path):
    model = models("static")
    model[0].embedding.weight.data.fill_(float("nan"))
    with pytest.raises(InputError, match="not finite"):
        sentemb.encode(model, text_file, tmp_path / "out")
    model[0].embedding.weight.data.fill_(1e5)
    with pytest.raises(InputError, match="choose float32"):
        sentemb.encode(model, text_file, tmp_path / "out", precision="float16")
    assert left(tmp_path) == []


def test_a_folder_of_something_else_is_no_encoded_corpus(tmp_path):
    with pytest.raises(InputError, match="recipes/encode.py"):
        EncodedCorpus(tmp_path)


def test_the_models_own_mode_and_dimensions_stay(models, tmp_path):
    model = models("static").train()
    cut = SentenceTransformer(modules=list(model), device="cpu", truncate_dim=4).train()
    encoded = sentemb.encode(cut, DOCUMENTS, tmp_path / "out")
    assert cut.training and encoded.dimension == 4
    close(np.array(encoded.embeddings), cut.encode(TEXTS))


def test_the_text_of_a_corpus_object(models, tmp_path):
    corpus = open_corpus(DOCUMENTS, progress=False)
    encoded = sentemb.encode(models("static"), corpus, tmp_path / "out")
    with pytest.raises(InputError, match="an object of a program"):
        encoded.texts([0])
