"""recipes/search.py finds what a loop finds, with the trained encoder and with the one that training began with."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from recipes import encode, search
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.pipeline import averaged_name, initial_model, initial_name
from sentemb.runs import RunFolder
from tests.helpers import STATIC

LITTLE = ["--batch-size", "16", "--max-steps", "4", "--warmup", "1", "--lr", "0.05", "--no-score"]
QUERIES = ["the cat sees the ship number 1.", "the queen thanks the poet."]


@pytest.fixture
def trained(recipe, book_file, tmp_path, capsys):
    """Trains with some flags, and returns a function that searches and returns each query's (cosine, sentence)."""
    (tmp_path / "queries.txt").write_text("\n\n".join(QUERIES), encoding="utf-8")

    def run(*flags: str):
        recipe(["--corpus", str(book_file), *LITTLE, "--out", "run", *flags])
        capsys.readouterr()

        def ask(*options: str) -> tuple[str, list[list[tuple[float, str]]]]:
            alone = () if "--before" in options else ("--after",)
            search.main(["run", "--queries", "queries.txt", *alone, *options])
            head, *blocks = capsys.readouterr().out.strip().split("\n\n")
            assert [block.splitlines()[0] for block in blocks] == QUERIES
            lines = [[line.split(None, 2) for line in block.splitlines()[1:]] for block in blocks]
            return head, [[(float(score), text) for _, score, text in block] for block in lines]

        return ask

    return run


def by_loop(query: np.ndarray, texts: list[str], rows: np.ndarray, k: int) -> list[tuple[float, str]]:
    scores = {}
    for text, row in zip(texts, rows, strict=True):
        scores[text] = float(row @ query / np.linalg.norm(row) / np.linalg.norm(query))
    return sorted(((score, text) for text, score in scores.items()), reverse=True)[:k]


def same(results, expected) -> None:
    for mine, loop in zip(results, expected, strict=True):
        np.testing.assert_allclose([score for score, _ in mine], [score for score, _ in loop], atol=2e-3)
        assert {text for _, text in mine[:1]} == {text for _, text in loop[:1]}


@pytest.mark.parametrize("block", [7, 2048])
def test_the_nearest_are_those_of_a_loop(block, trained, book_file, tmp_path, monkeypatch):
    monkeypatch.setattr(search, "BLOCK", block)
    ask = trained("--encoder", STATIC)
    texts = open_corpus(str(book_file), progress=False).sentences(slice(0, None))
    model = load(tmp_path / "run", device="cpu")
    head, results = ask("--k", "4")
    assert head.startswith("model: trained") and [len(each) for each in results] == [4, 4]
    same(results, [by_loop(model.encode(query), texts, model.encode(texts), 4) for query in QUERIES])

    before = initial_model(Path("run"))
    head, results_before = ask("--before", "--k", "4")
    assert head.startswith("model: random static") and results_before != results
    same(results_before, [by_loop(before.encode(query), texts, before.encode(texts), 4) for query in QUERIES])


@pytest.mark.parametrize("columns", [200, 60])
def test_both_rankings_stand_side_by_side(columns, trained, monkeypatch, capsys):
    ask = trained("--encoder", STATIC)
    rankings = [ask("--before", "--k", "4")[1], ask("--k", "4")[1]]
    monkeypatch.setenv("COLUMNS", str(columns))
    search.main(["run", "--queries", "queries.txt", "--k", "4"])
    head, *blocks = capsys.readouterr().out.strip().split("\n\n")
    assert head.startswith("model: random static") and " | trained" in head
    for number, block in enumerate(blocks):
        cells = [line.partition(" |") for line in block.splitlines()[1:]]
        for ranking, lines in zip(rankings, zip(*[(a, b) for a, _, b in cells], strict=True), strict=True):
            shown = " ".join(" ".join(lines).split())
            lines_alone = search.lines_of(ranking[number])
            assert shown == " ".join(" ".join(lines_alone).split())
        assert max(map(len, block.splitlines())) <= max(columns, 2 * search.LEAST_COLUMN + 3)


def test_the_corpus_is_read_once_for_both_encoders(trained, book_file, monkeypatch, capsys):
    trained("--encoder", STATIC)
    monkeypatch.setattr(search, "BLOCK", 7)
    corpus, read = open_corpus(str(book_file), progress=False), []
    original = type(corpus).sentences

    def sentences(self, rows):
        read.append(len(rows))
        return original(self, rows)

    monkeypatch.setattr(type(corpus), "sentences", sentences)
    search.main(["run", "--ask", "a cat", "--k", "2"])
    assert sum(read) == len(corpus) + 2 * 2  # the last ones to print
    assert "144/144" in capsys.readouterr().err


@pytest.mark.parametrize("block", [1, 3, 7, 100])
def test_each_distinct_sentence_is_searched_once(block):
    random = np.random.default_rng(0)
    texts = [f"sentence {i}" for i in random.integers(0, 60, 100)]
    seen, places = search.Distinct(), []
    for start in range(0, len(texts), block):
        places += (start + seen.add(texts[start : start + block])).tolist()
    assert places == [i for i, text in enumerate(texts) if text not in texts[:i]]
    assert sum(map(len, seen.runs)) == len(places) and all((run[1:] > run[:-1]).all() for run in seen.runs)
    assert all(len(a) > 2 * len(b) for a, b in zip(seen.runs, seen.runs[1:], strict=False))


def test_the_page_shows_both_rankings(trained, capsys):
    trained("--encoder", STATIC)
    search.main(["run", "--ask", "the <b>cat</b> sees", "--ask", "a train", "--queries", "queries.txt", "--page"])
    printed = capsys.readouterr().out
    content = json.loads(Path("run/search.json").read_text())
    assert [each["query"] for each in content["queries"]] == ["the <b>cat</b> sees", "a train", *QUERIES]
    assert content["sentences"] == 144 and "page: run/report.html" in printed
    for each in content["queries"]:
        assert list(each["nearest"]) == ["random static", "trained"]
        for ranking in each["nearest"].values():
            assert len(ranking) == 3
            assert all(f"{score:.3f}  {text.split()[0]}" in printed for score, text in ranking)
    page = Path("run/report.html").read_text()
    section = page[page.index("id='queries'") :]
    assert "the &lt;b&gt;cat&lt;/b&gt; sees" in section and "before: random static" in section
    assert "after: trained" in section and "3 documents" not in section
    score, text = content["queries"][1]["nearest"]["trained"][0]
    assert f"<small>{score:.2f}</small> {text}" in section
    search.main(["run", "--ask", "another", "--page"])
    assert "another" in Path("run/report.html").read_text() and "a train<" not in Path("run/report.html").read_text()


def test_a_run_with_a_page_of_queries_can_be_resumed(trained, recipe, book_file):
    trained("--encoder", STATIC)
    search.main(["run", "--ask", "a train", "--page"])
    recipe(["--resume", "--out", "run", "--max-steps", "6", "--no-score"])
    assert not Path("run/search.json").exists() and "id='queries'" not in Path("run/report.html").read_text()


def test_an_encoder_that_cannot_be_made_again_is_left_out(trained, capsys):
    trained("--encoder", STATIC)
    config = json.loads(Path("run/config.json").read_text())
    config["settings"]["encoder"] = "<a model>"
    RunFolder(Path("run")).config.write_text(json.dumps(config))
    search.main(["run", "--ask", "a train"])
    printed = capsys.readouterr()
    assert printed.out.startswith("model: trained ") and "note: the encoder before training is left out" in printed.err
    with pytest.raises(SystemExit):
        search.main(["run", "--ask", "a train", "--page"])
    assert "of a Python program" in capsys.readouterr().err and not Path("run/search.json").exists()


@pytest.mark.parametrize("flags", [("--towers", "2"), ("--prompts", 'anchor="query ",positive="passage "')])
def test_a_query_goes_through_the_first_side_and_the_corpus_through_the_second(flags, trained, book_file, tmp_path):
    ask = trained("--encoder", STATIC, *flags)
    texts = open_corpus(str(book_file), progress=False).sentences(slice(0, None))
    if "--towers" in flags:
        f, g = (load(tmp_path / "run" / "model" / name, device="cpu").encode for name in "fg")
    else:
        model = load(tmp_path / "run", device="cpu")
        f, g = (lambda t, p=prompt: model.encode(t, prompt=p) for prompt in ("query ", "passage "))
    _, results = ask()
    same(results, [by_loop(f([query])[0], texts, g(texts), 3) for query in QUERIES])


def test_the_encoder_before_training_is_made_again_as_it_was(recipe, book_file, tmp_path):
    """Its held-out scores are those that the run measured before its first update."""
    from sentemb.validation import held_out_pairs, held_out_scores

    spec = "rnn:hidden=6,embeddings=random,dim=8,vocabulary=300"
    recipe(["--corpus", str(book_file), *LITTLE, "--out", "run", "--encoder", spec, "--seed", "5"])
    first = json.loads((tmp_path / "run" / "log.jsonl").read_text().splitlines()[0])
    pairs = held_out_pairs(open_corpus(str(book_file), progress=False))
    scores = held_out_scores(initial_model(tmp_path / "run"), pairs)
    assert scores["heldout_uniformity"] == pytest.approx(first["heldout_uniformity"], abs=1e-6)
    book_file.write_text(book_file.read_text() + "\n\nOne more document.\nIt changes the words.\n")
    with pytest.raises(InputError, match="has changed since it was trained"):
        initial_model(tmp_path / "run")


def test_an_even_sample_bounds_the_search(trained, capsys):
    ask = trained("--encoder", STATIC)
    rows = search.rows_of(open_corpus(json.loads(Path("run/config.json").read_text())["settings"]["corpus"]), 12)
    assert len(set(rows)) == 12 and set(np.diff(rows)) == {13} and rows[0] == 0 and rows[-1] == 143
    search.main(["run", "--queries", "queries.txt", "--max-sentences", "12", "--k", "50", "--after"])
    printed = capsys.readouterr()
    assert "12 of the 144 sentences are searched" in printed.err and "searching" in printed.err
    assert len(ask("--max-sentences", "12", "--k", "50")[1][0]) == 12


def test_another_corpus_and_queries_from_standard_input(trained, tmp_path, monkeypatch, capsys):
    trained("--encoder", STATIC)
    (tmp_path / "other.txt").write_text(
        "the cat sees the ship.\nthe dog finds it.\n\na train.\nthe cat sees the ship.\n"
    )
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"the cat sees the ship.\n")))
    search.main(["run", "--queries", "-", "--corpus", "other.txt", "--k", "9", "--after"])
    lines = capsys.readouterr().out.strip().splitlines()[3:]
    assert [line.split(None, 2)[2] for line in lines][0] == "the cat sees the ship." and len(
        lines
    ) == 3  # no sentence twice
    assert lines[0].split()[1] == "1.000"


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        (["nowhere", "--queries", "q"], "nowhere is not a run: it has no config.json"),
        ([".", "--queries", "q", "--k", "0"], "--k must be at least 1, got 0"),
        ([".", "--queries", "missing"], "--queries missing cannot be read"),
        ([".", "--queries", "blank"], "holds no query"),
        (["."], "there is no query; give one with --ask"),
        ([".", "--ask", " "], "--ask is empty"),
        ([".", "--ask", "a", "--page"], "has no log.jsonl, so it has no page"),
        ([".", "--queries", "latin"], "is not UTF-8 text"),
        ([".", "--queries", "q", "--device", "abacus", "--corpus", "q"], "device 'abacus' cannot be used"),
        ([".", "--queries", "q"], "name the text with --corpus"),
    ],
)
def test_what_cannot_be_used_is_one_sentence_and_exit_code_2(arguments, pattern, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name, data in (("q", b"hello\n"), ("blank", b" \n\n"), ("latin", b"caf\xe9")):
        Path(name).write_bytes(data)
    RunFolder(Path()).config.write_text('{"settings": {"corpus": "<the corpus, 0f>", "encoder": "<a model>"}}')
    with pytest.raises(SystemExit) as stopped:
        search.main(arguments)
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and pattern in error and error.count("\n") == 1


WITHOUT_TORCH = """
import sys
from recipes import encode, search
for arguments in {0!r}:
    try:
        search.main(["run", "--queries", "q", *arguments])
    except SystemExit as stopped:
        assert stopped.code == 2, arguments
    assert "torch" not in sys.modules and "datasets" not in sys.modules, arguments
"""


def test_what_is_wrong_with_the_corpus_is_answered_before_torch_is_imported(tmp_path):
    for name in ("run", "empty", "empty/folder"):
        (tmp_path / name).mkdir()
    (tmp_path / "q").write_text("hello\n")
    RunFolder(tmp_path / "run").config.write_text('{"settings": {"corpus": "/moved/books", "encoder": "rnn"}}')
    wrong = {
        "--corpus nope": "unknown corpus, and no file or folder has that path: 'nope'",
        "--corpus empty": "folder empty holds no book",
        "--corpus books:path=empty": "folder empty holds no book",
        "--corpus lines:path=nope": "there is no file or folder nope",
        "": "no file or folder has that path: '/moved/books'",
    }
    code = WITHOUT_TORCH.format([arguments.split() for arguments in wrong])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    errors = done.stderr.splitlines()
    assert done.returncode == 0 and len(errors) == len(wrong), done.stderr
    assert all(message in error for error, message in zip(errors, wrong.values(), strict=True))


def test_an_object_of_a_program_cannot_be_made_again(tmp_path):
    RunFolder(tmp_path).config.write_text('{"settings": {"corpus": "sample", "encoder": "<a model>"}}')
    with pytest.raises(InputError, match="of a Python program, which its folder does not hold"):
        initial_model(tmp_path)


def test_help_takes_no_time():
    start = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "recipes.search", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert time.perf_counter() - start < 10 and "--max-sentences" in done.stdout
    assert not any(name in done.stderr for name in ("torch", "numpy", "transformers", "matplotlib"))


@pytest.mark.parametrize(
    ("settings", "initial", "averaged"),
    [
        ({"encoder": "rnn:embeddings=random"}, "random rnn", "averaged random embeddings"),
        ({"encoder": "rnn:embeddings=/a/glove.txt"}, "random rnn", "averaged glove.txt embeddings"),
        ({"encoder": "static:embeddings=minilm"}, "static minilm embeddings", "averaged minilm embeddings"),
        (
            {"encoder": "static:distill=minilm"},
            "static distilled minilm embeddings",
            "averaged distilled minilm embeddings",
        ),
        ({"encoder": "rnn:distill=/a/e5,dim=9"}, "random rnn", "averaged distilled e5 embeddings"),
        ({"encoder": "transformer:pooling=cls"}, "minilm", "averaged embeddings of minilm"),
        (
            {"encoder": "transformer:keep_layers=1-3"},
            "minilm layers 1-3",
            "averaged embeddings of minilm layers 1-3",
        ),
        ({"init": "minilm", "encoder": None}, "minilm", "averaged embeddings of minilm"),
        ({"init": "intfloat/e5-small"}, "intfloat/e5-small", "averaged embeddings of intfloat/e5-small"),
        ({"init": "/runs/first"}, "first", "averaged embeddings of first"),
        ({"init": "/runs/first/model"}, "first", "averaged embeddings of first"),
        ({"init": "/runs/first/best"}, "first/best", "averaged embeddings of first/best"),
        ({"init": "/runs/first/checkpoints/step-5"}, "first/step-5", "averaged embeddings of first/step-5"),
        ({"init": "/runs/trained"}, "initial trained", "averaged embeddings of initial trained"),
        ({"encoder": "<SentenceTransformer of GRU>"}, "initial encoder", "averaged embeddings of initial encoder"),
    ],
)
def test_the_model_that_training_began_with_has_a_name(settings, initial, averaged):
    assert (initial_name(settings), averaged_name(settings)) == (initial, averaged)


@pytest.mark.parametrize("flags", [[], ["--precision", "float16", "--format", "parquet", "--text"]])
def test_an_encoded_corpus_is_searched_as_the_text_is(flags, trained, book_file, capsys, monkeypatch):
    ask = trained("--encoder", STATIC)
    encode.main(["run", str(book_file), "vectors", *flags])
    assert capsys.readouterr().out.startswith("vectors: 144 sentences x 5 in float")
    _, expected = ask("--k", "4")
    search.main(["run", "--queries", "queries.txt", "--embeddings", "vectors", "--k", "4"])
    head, *blocks = capsys.readouterr().out.strip().split("\n\n")
    assert head.endswith("embeddings: vectors")
    lines = [[line.split(None, 2) for line in block.splitlines()[1:]] for block in blocks]
    same([[(float(score), text) for _, score, text in block] for block in lines], expected)


def test_two_towers_and_prompts_are_searched_as_they_were_trained(trained, book_file, capsys):
    ask = trained("--encoder", STATIC, "--towers", "2", "--prompts", 'anchor="ask: ",positive="tell: "')
    encode.main(["run", str(book_file), "vectors", "--tower", "g"])
    _, expected = ask("--k", "3")
    search.main(["run", "--queries", "queries.txt", "--embeddings", "vectors", "--k", "3"])
    blocks = capsys.readouterr().out.strip().split("\n\n")[1:]
    lines = [[line.split(None, 2) for line in block.splitlines()[1:]] for block in blocks]
    same([[(float(score), text) for _, score, text in block] for block in lines], expected)


def refusal(capsys, *arguments: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        search.main([*arguments, "--ask", "a cat"])
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_embeddings_that_cannot_be_searched_are_refused(trained, recipe, book_file, capsys):
    trained("--encoder", STATIC)
    encode.main(["run", str(book_file), "vectors"])
    recipe(["--corpus", str(book_file), *LITTLE, "--out", "other", "--encoder", STATIC, "--seed", "1"])
    assert "was made by run" in refusal(capsys, "other", "--embeddings", "vectors")
    assert "--corpus is for a search" in refusal(capsys, "run", "--embeddings", "vectors", "--corpus", "sample")
    assert "recipes/encode.py" in refusal(capsys, "run", "--embeddings", "run")
    with Path("vectors/embeddings.npy").open("r+b") as file:
        file.seek(500)
        file.write(b"x")
    assert "is damaged" in refusal(capsys, "run", "--embeddings", "vectors")
