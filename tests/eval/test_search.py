"""Search end to end: what files hold, what is refused in one sentence, and scores that a loop over all pairs gives."""

import json
import math
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from zlib import crc32

import numpy as np
import pytest

from eval.search import SearchScores, SearchTask, compare_search, held_out_task, measure_search, read_search_task
from eval.search import scorer as scorer_module
from eval.search.command import main
from eval.search.report import interval, search_json, search_text
from eval.significance import randomisation_test
from sentemb.corpus import open_corpus
from sentemb.encoders import Prompts, max_tokens_of, set_prompts, two_towers
from sentemb.errors import InputError
from sentemb.search import ListedPassages
from sentemb.validation import ItemScores
from tests.helpers import STATIC

PASSAGES = {
    f"d{i}": f"the {a} sees the {b}"
    for i, (a, b) in enumerate(
        zip(["cat", "dog", "ship", "king", "poet"] * 3, ["train", "doctor", "lawyer"] * 5, strict=True)
    )
}
QUERIES = {"q1": "who sees the train", "q2": "a cat", "d3": "the king sees the train", "q4": "nobody asks this"}
QRELS = [("q1", "d0", 2), ("q1", "d3", 1), ("q1", "d7", 0), ("q2", "d0", 1), ("d3", "d9", 1), ("q4", "d1", 0)]


def write_beir(folder: Path, passages=PASSAGES, queries=QUERIES, qrels=QRELS) -> Path:
    (folder / "qrels").mkdir(parents=True)
    lines = [json.dumps({"_id": key, "title": "Title" * (key == "d1"), "text": text}) for key, text in passages.items()]
    (folder / "corpus.jsonl").write_text("\n\n".join(lines) + "\n", encoding="utf-8")
    lines = [json.dumps({"_id": key, "text": text}) for key, text in queries.items()]
    (folder / "queries.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows = ["query-id\tcorpus-id\tscore", *("\t".join(map(str, row)) for row in qrels)]
    (folder / "qrels" / "test.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return folder


class Hashed:
    """An encoder whose embedding of a text is drawn by the text; it counts what it meets."""

    max_seq_length = 7

    def __init__(self):
        self.met = []

    def encode(self, texts, **_):
        self.met += texts
        return np.array([np.random.default_rng(crc32(text.encode())).normal(size=6) for text in texts])


def all_texts(task: SearchTask) -> list[str]:
    return task.passages.texts(slice(0, len(task.passages)))


def test_a_folder_in_beirs_layout(tmp_path):
    task = read_search_task(write_beir(tmp_path / "cats"))
    assert task.name == "cats, test" and task.queries == [QUERIES[key] for key in ("q1", "q2", "d3")]
    assert all_texts(task) == [f"Title {text}" if key == "d1" else text for key, text in PASSAGES.items()]
    assert task.passages.texts(slice(4, 7)) == list(PASSAGES.values())[4:7] and len(task.passages) == 15
    assert task.judgements == [{0: 2, 3: 1, 7: 0}, {0: 1}, {9: 1}]
    assert task.leave_out == [[], [], [3]]
    assert task.notes == (
        "queries that are passages, too (by their id), and do not find themselves: 1",
        "queries without a relevant passage, which are left out: 1",
    )


def test_one_of_several_folders_and_splits(tmp_path):
    write_beir(tmp_path / "data" / "cats")
    folder = write_beir(tmp_path / "data" / "dogs", qrels=QRELS[:1])
    (folder / "qrels" / "dev.tsv").write_text("q2\td1\t1\r\n")  # without a head
    assert read_search_task(tmp_path / "data", name="dogs", split="dev").judgements == [{1: 1}]
    with pytest.raises(InputError, match="holds several tasks; choose one with --task: cats, dogs"):
        read_search_task(tmp_path / "data")
    with pytest.raises(InputError, match="dogs"):
        read_search_task(tmp_path / "data", name="dog")
    with pytest.raises(InputError, match="available splits: dev, test"):
        read_search_task(tmp_path / "data", name="dogs", split="train")


def test_a_passage_of_the_querys_id_that_is_relevant_is_another_text(tmp_path):
    task = read_search_task(write_beir(tmp_path / "x", qrels=[*QRELS, ("d3", "d3", 1)]))
    assert task.leave_out == [[], [], []]


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("corpus.jsonl", '"d5"', '"d2"', "line 11 of .*corpus.jsonl has the id 'd2' again"),
        (
            "corpus.jsonl",
            '"text": "the dog',
            '"words": "the dog',
            'line 3 of .* is not an object with "_id" and "text"',
        ),
        ("corpus.jsonl", '{"_id": "d4"', '{"_id": "d4', "line 9 of .*corpus.jsonl is not JSON"),
        ("queries.jsonl", '"q2"', '"q1"', "line 2 of .*queries.jsonl has the id 'q1' again"),
        ("queries.jsonl", "a cat", " ", "the query 'q2' in line 2 of .*queries.jsonl is empty"),
        ("qrels/test.tsv", "q2\t", "q9\t", "line 5 of .*test.tsv names the query 'q9', and queries.jsonl has no such"),
        (
            "qrels/test.tsv",
            "d9\t",
            "d99\t",
            "judges the passage 'd99' for the query 'd3', and corpus.jsonl has no such",
        ),
        ("qrels/test.tsv", "q1\td3\t1", "q1\td3\tone", "line 3 of .*test.tsv is not a query, passage and grade"),
        ("qrels/test.tsv", "q1\td3\t1", "q1\td3", "line 3 of .*test.tsv is not a query, passage and grade"),
        ("qrels/test.tsv", "q1\td3\t1", "q1\td0\t1", "line 3 of .*test.tsv judges a passage again"),
        ("qrels/test.tsv", "\t1\n", "\t0\n", "judges no passage relevant"),
    ],
)
def test_what_is_wrong_with_a_folder_is_one_sentence(file, old, new, message, tmp_path, capsys):
    folder = write_beir(tmp_path / "cats", qrels=[*QRELS[1:], QRELS[0]] if new == "\t0\n" else QRELS)
    text = (folder / file).read_text()
    assert old in text
    text = text.replace(old, new) if new == "\t0\n" else text.replace(old, new, 1)
    (folder / file).write_text(text.replace("\t2\n", "\t0\n") if new == "\t0\n" else text)
    with pytest.raises(SystemExit) as stopped:
        main(["minilm", "--data", str(folder)])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and error.count("\n") == 1
    with pytest.raises(InputError, match=message):
        read_search_task(folder)


@pytest.mark.parametrize("missing", ["corpus.jsonl", "queries.jsonl", "qrels/test.tsv"])
def test_a_missing_file_is_named(missing, tmp_path):
    folder = write_beir(tmp_path / "cats")
    (folder / missing).unlink()
    with pytest.raises(InputError, match=missing.partition("/")[2] or missing):
        read_search_task(folder)


TABLES = {
    ".csv": 'query,passage,score\nwho?,I am,2\nwho?,you are,0\nwhy?,"so, because",1\nI am,you are,1\n',
    ".tsv": "query\tpassage\tscore\nwho?\tI am\t2\nwho?\tyou are\t0\nwhy?\tso, because\t1\nI am\tyou are\t1\n",
    ".jsonl": "\n".join(
        json.dumps({"query": q, "passage": p, "score": s})
        for q, p, s in (("who?", "I am", 2), ("who?", "you are", 0), ("why?", "so, because", 1), ("I am", "you are", 1))
    ),
}


@pytest.mark.parametrize("suffix", [*TABLES, ".parquet"])
def test_a_table_of_pairs(suffix, tmp_path):
    path = tmp_path / f"pairs{suffix}"
    if suffix == ".parquet":
        import pandas as pd

        pd.DataFrame([json.loads(line) for line in TABLES[".jsonl"].splitlines()]).to_parquet(path)
    else:
        path.write_text(TABLES[suffix])
    task = read_search_task(path)
    assert task.queries == ["who?", "why?", "I am"] and all_texts(task) == ["I am", "you are", "so, because"]
    assert task.judgements == [{0: 2, 1: 0}, {2: 1}, {1: 1}] and task.leave_out == [[], [], [0]]
    assert "by their text" in task.notes[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("question,passage\na,b\n", "has no column 'query'; its columns: question, passage"),
        ("query,passage\na,\n", "row 1 of .* has nothing in 'passage'"),
        ("query,passage\na,b\n ,b\n", "row 2 of .* has nothing in 'query'"),
        ("query,passage,score\na,b,high\n", "row 1 of .* has the score 'high', which is not a number"),
        ("query,passage,score\na,b,1\na,b,2\n", "row 2 of .* judges a pair again"),
        ("query,passage,score\na,b,0\n", "judges no passage relevant"),
    ],
)
def test_what_is_wrong_with_a_table_is_one_sentence(text, message, tmp_path):
    (tmp_path / "pairs.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_search_task(tmp_path / "pairs.csv")
    (tmp_path / "pairs.doc").write_text(text)
    with pytest.raises(InputError, match=r"none of \.jsonl"):
        read_search_task(tmp_path / "pairs.doc")


def ranks_by_loop(x: np.ndarray, y: np.ndarray, task: SearchTask) -> list[list[int]]:
    """Numbers of the passages of each query, the best first."""
    rankings = []
    for i, query in enumerate(x):
        cosines = [float(query @ row / np.linalg.norm(query) / np.linalg.norm(row)) for row in y]
        left_out = task.leave_out[i] if task.leave_out else []
        rankings.append(sorted((j for j in range(len(y)) if j not in left_out), key=lambda j: (-cosines[j], j)))
    return rankings


def mean_reciprocal_rank(rankings: list[list[int]], task: SearchTask) -> float:
    total = 0.0
    for ranking, grades in zip(rankings, task.judgements, strict=True):
        rank = next(rank for rank, number in enumerate(ranking, 1) if grades.get(number, 0) > 0)
        total += 1 / rank if rank <= 10 else 0
    return total / len(rankings)


@pytest.mark.parametrize("block", [4, 4096])
def test_scores_are_those_of_a_loop_and_passages_are_encoded_once(block, tmp_path, monkeypatch):
    monkeypatch.setattr(scorer_module, "BLOCK", block)
    task, model = read_search_task(write_beir(tmp_path / "cats")), Hashed()
    scores = measure_search(model, task, 12, recall_at=(1, 5))
    assert list(scores.items) == ["nDCG@10", "MRR@10", "MAP@12", "recall@1", "recall@5", "recall@12"]
    assert scores.max_tokens == 7
    assert sorted(model.met) == sorted([*task.queries, *all_texts(task)])
    rankings = ranks_by_loop(model.encode(task.queries), model.encode(all_texts(task)), task)
    assert scores.items["MRR@10"].values.mean() == pytest.approx(mean_reciprocal_rank(rankings, task))
    for rank in (1, 5, 12):
        recall = [
            sum(n in r[:rank] for n in j if j[n] > 0) / sum(g > 0 for g in j.values())
            for r, j in zip(rankings, task.judgements, strict=True)
        ]
        np.testing.assert_allclose(scores.items[f"recall@{rank}"].values, recall)


@pytest.mark.parametrize("kind", ["prompts", "towers"])
def test_queries_and_passages_have_their_prompts_or_towers(kind, encoder, tmp_path):
    task = read_search_task(write_beir(tmp_path / "cats"))
    if kind == "prompts":
        model = encoder(STATIC)
        set_prompts(model, Prompts("query ", "passage "))
        x = model.encode(task.queries, prompt="query ")
        y = model.encode(all_texts(task), prompt="passage ")
    else:
        f, g = encoder(STATIC), encoder(STATIC)
        for parameter in g.parameters():
            parameter.data.neg_()
        model = two_towers(f, g)
        x, y = f.encode(task.queries), g.encode(all_texts(task))
    scores = measure_search(model, task, 15)
    assert scores.sides == {"prompts": "the anchor's prompt against the positive's", "towers": "f against g"}[kind]
    expected = mean_reciprocal_rank(ranks_by_loop(x, y, task), task)
    assert scores.items["MRR@10"].values.mean() == pytest.approx(expected)


def test_cached_passages_are_not_encoded_again(encoder, tmp_path, monkeypatch):
    task, model = read_search_task(write_beir(tmp_path / "cats")), encoder(STATIC)
    first = measure_search(model, task, 10, cache=tmp_path / "cache")
    (path,) = (tmp_path / "cache").glob("passages-*")
    met = []
    monkeypatch.setattr(scorer_module, "_write_rows", lambda *arguments: met.append(arguments))
    again = measure_search(model, task, 10, cache=tmp_path / "cache")
    assert not met and all((first.items[name].values == again.items[name].values).all() for name in first.items)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(InputError, match="is damaged, or the encoder gives"):
        measure_search(model, task, 10, cache=tmp_path / "cache")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="--cache .* cannot be used"):
        measure_search(model, task, 10, cache=tmp_path / "file")


KILLED = """
import os, signal, sys
from pathlib import Path
from eval.search.scorer import stored_rows

def write(file):
    file.write(bytes(8))
    file.flush()
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    file.write(bytes(16))

with stored_rows(write, (2, 3), Path(sys.argv[1]) if sys.argv[1] else None) as rows:
    assert rows.shape == (2, 3) and not rows.any()
"""


@pytest.mark.slow
@pytest.mark.parametrize("next_name", ["passages-first", "passages-other"])
def test_a_killed_writer_leaves_nothing_after_the_next_call(next_name, tmp_path):
    """Neither of the same passages nor of others."""
    command = [sys.executable, "-c", KILLED]
    subprocess.run([*command, str(tmp_path / "passages-first"), "kill"])
    assert len(list(tmp_path.glob(".passages-first.*[!k]"))) == 1 and not (tmp_path / "passages-first").exists()
    subprocess.run([*command, str(tmp_path / next_name), "end"], check=True)
    assert {path.name for path in tmp_path.iterdir() if path.suffix != ".lock"} == {next_name}


def test_a_killed_writer_leaves_no_temporary_file(tmp_path):
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    for how in ("kill", "end"):
        subprocess.run([sys.executable, "-c", KILLED, "", how], env=environment)
    assert not list(tmp_path.iterdir())


def test_who_comes_second_waits_and_writes_nothing(tmp_path):
    """Eight threads want one file, and another is being written meanwhile, whose unfinished file stays."""
    other, writes = tmp_path / "passages-other", []
    unfinished = tmp_path / f".passages-other.{'0' * 32}"
    unfinished.write_bytes(b"1")

    def write(file):
        writes.append(1)
        time.sleep(0.2)
        file.write(np.arange(6, dtype=np.float32).tobytes())

    def read(_):
        with scorer_module.stored_rows(write, (2, 3), tmp_path / "passages-one") as rows:
            return rows.tolist()

    with scorer_module._lock_of(other), ThreadPoolExecutor(8) as pool:
        results = list(pool.map(read, range(8)))
    assert len(writes) == 1 and unfinished.exists() and results == [[[0, 1, 2], [3, 4, 5]]] * 8


@pytest.mark.parametrize("sentences", [2, 5, 7])
def test_held_out_passages(sentences, book_file, tmp_path, monkeypatch):
    """Every sentence of the held-out documents is in one passage or is its query."""
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus(str(book_file), progress=False)
    task = held_out_task(corpus, sentences)
    held_out = corpus.split()[1]
    texts = [corpus.sentences(slice(start, stop)) for start, stop in held_out]
    remaining = {text for document in texts for text in document}
    passages = all_texts(task)
    assert passages == [
        text for start in range(0, len(passages), 2) for text in task.passages.texts(slice(start, start + 2))
    ]
    for query, grades, document in zip(task.queries, task.judgements, task.documents, strict=True):
        ((number, grade),) = grades.items()
        start = int(corpus.documents[document])
        lines = corpus.sentences(slice(start, int(corpus.documents[document + 1])))
        chunks = [lines[i : i + sentences] for i in range(0, len(lines), sentences)]
        chunk = next(chunk for chunk in chunks if query in chunk)
        assert grade == 1 and passages[number] == " ".join(text for text in chunk if text != query)
        remaining -= set(chunk)
    lost = sum(len(document) % sentences == 1 for document in texts)
    assert len(remaining) == lost and len(passages) == len(task.queries)
    assert [
        held_out_task(corpus, sentences, 1).queries[0] in task.queries,
        len(held_out_task(corpus, sentences, 1).queries),
    ] == [True, 1]
    assert held_out_task(corpus, sentences).queries == task.queries


def test_labelled_data_has_no_passages(nli, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(InputError, match="is labelled data, which has no passages"):
        held_out_task(open_corpus(f"labelled:path={nli}", progress=False))


def by_permutations(a: np.ndarray, b: np.ndarray) -> float:
    """The exact p: all signs of all differences."""
    differences = a - b
    signs = np.array(np.meshgrid(*[[-1, 1]] * len(a))).reshape(len(a), -1)
    return float(np.mean(np.abs(differences @ signs) >= abs(differences.sum()) - 1e-12))


@pytest.mark.parametrize("seed", range(4))
def test_the_randomisation_test_is_near_the_exact_one(seed):
    random = np.random.default_rng(seed)
    a, b = random.random(10), random.random(10) + 0.1 * seed
    p, exact = randomisation_test(a, b), by_permutations(a, b)
    assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / 10_000) + 1e-3
    assert p == randomisation_test(a, b) == randomisation_test(b, a)
    assert randomisation_test(a, a) == 1
    groups = np.repeat(np.arange(5), 2)
    summed = [each.reshape(5, 2).sum(axis=1) for each in (a, b)]
    assert randomisation_test(a, b, groups) == pytest.approx(by_permutations(*summed), abs=0.02)
    assert randomisation_test(np.ones(40), np.zeros(40)) == pytest.approx(1 / 10_001)


def scored(values: np.ndarray, documents: np.ndarray | None = None) -> SearchScores:
    return SearchScores(
        {"MRR@10": ItemScores(values, documents=documents, items="queries")}, 40, "cosine", "one encoder"
    )


def test_each_encoder_is_compared_with_the_first():
    random = np.random.default_rng(0)
    base = random.random(300)
    scores = {"base": scored(base), "better": scored(base + 0.05), "same": scored(base + 0.2 * random.normal(size=300))}
    rows = compare_search(scores)
    assert [(row["encoder"], row["against"], row["verdict"]) for row in rows] == [
        ("better", "base", "better"),
        ("same", "base", "cannot tell"),
    ]
    assert rows[0]["difference"] == pytest.approx(0.05) and rows[0]["p"] < 0.001 < 0.02 < rows[1]["p"]
    low, high = interval(scores["base"].items["MRR@10"])
    error = base.std(ddof=1) / np.sqrt(300)
    assert (low, high) == pytest.approx((base.mean() - 1.96 * error, base.mean() + 1.96 * error), abs=0.005)
    assert interval(scored(base[:1]).items["MRR@10"]) is None


def test_the_text_says_how_an_encoder_with_two_sides_ranks():
    values = np.random.default_rng(0).random(3)
    task = SearchTask("numbers", ["a", "b", "c"], ListedPassages(["x"]), [{0: 1.0}] * 3)
    text = search_text(
        task, {"plain": scored(values), "two": replace(scored(values), score="dot", sides="f against g")}
    )
    assert "\ntwo: f against g, by inner product\n" in text and "\nplain:" not in text


@pytest.mark.parametrize("limit", [None, math.inf, 10**30, 7])
def test_a_model_without_a_limit_of_tokens_says_so(limit, tmp_path):
    task, model = read_search_task(write_beir(tmp_path / "cats")), Hashed()
    model.max_seq_length = limit
    scores = measure_search(model, task)
    assert scores.max_tokens == (7 if limit == 7 else None)
    text = search_text(task, {"model": scores})
    assert ("no limit" in text) == (limit != 7) and "inf" not in text
    (result,) = json.loads(search_json(task, {"model": scores}))["results"]
    assert result["max_tokens"] == scores.max_tokens


def test_a_table_of_embeddings_reads_what_its_tokenizer_leaves(encoder):
    model = encoder(STATIC, 9)
    assert model.max_seq_length == math.inf and max_tokens_of(model) == 9
    assert max_tokens_of(two_towers(model, encoder(STATIC))) == 9
    model[0].tokenizer.no_truncation()
    assert max_tokens_of(model) is None
    assert max_tokens_of(encoder("transformer:name=TINY", 11)) == 11


def test_queries_of_one_document_are_drawn_together():
    """Twelve documents whose queries all have one value: the interval is that of twelve values, not of 600."""
    values = np.random.default_rng(1).random(12)
    repeated = scored(np.repeat(values, 50), np.repeat(np.arange(12), 50)).items["MRR@10"]
    assert interval(repeated) == pytest.approx(interval(ItemScores(values)), abs=1e-9)


def models_of(encoder, folder: Path, monkeypatch) -> list[str]:
    """Two checkpoints."""
    monkeypatch.setenv("SENTEMB_CACHE", str(folder / "cache"))
    paths = []
    for name in ("first", "second"):
        model = encoder(STATIC)
        if name == "second":
            for parameter in model.parameters():
                parameter.data.add_(0.5)
        model.save(str(folder / name), create_model_card=False)
        paths.append(str(folder / name))
    return paths


def run(arguments: list[str]) -> int:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return int(stopped.value.code or 0)


def test_the_command_prints_tables_and_json(encoder, tmp_path, monkeypatch, capsys):
    paths = models_of(encoder, tmp_path, monkeypatch)
    folder = str(write_beir(tmp_path / "cats"))
    assert run([*paths, "--data", folder, "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("cats, test: 3 queries, 15 passages, 5 judgements")
    assert "do not find themselves" in text and "nDCG@10" in text and f"difference from {paths[0]}" in text
    assert run([*paths, "--data", folder, "--json", "--device", "cpu", "--recall-at", "5,1,100"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert [row["checkpoint"] for row in made["results"]] == paths and made["queries"] == 3
    recall = [f"recall@{rank}" for rank in (1, 5, 100)]
    assert [row["measure"] for row in made["comparison"]] == ["nDCG@10", "MRR@10", "MAP@100", *recall]
    first = made["results"][0]["scores"]["MRR@10"]
    assert first["low"] <= first["value"] <= first["high"]
    assert f"{first['value']:.4f} [{first['low']:.3f}, {first['high']:.3f}]" in text


def test_one_of_several_checkpoints_that_fails_does_not_stop_the_others(encoder, tmp_path, monkeypatch, capsys):
    paths = models_of(encoder, tmp_path, monkeypatch)
    for weights in Path(paths[0]).rglob("*.safetensors"):
        weights.write_bytes(b"x")
    assert run([*paths, "--data", str(write_beir(tmp_path / "cats")), "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert f"error: {paths[0]}" in printed.err and "nDCG@10" in printed.out


def test_the_command_on_held_out_text(encoder, book_file, tmp_path, monkeypatch, capsys):
    paths = models_of(encoder, tmp_path, monkeypatch)
    assert run([*paths, "--corpus", str(book_file), "--sentences", "4", "--device", "cpu"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("a sentence finds its passage, ") and "a passage is 4 neighbouring sentences" in text


WITHOUT_TORCH = """
import sys
from eval.search.command import main
try:
    main(sys.argv[1:])
finally:
    assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["minilm", "--data", "cats", "--k", "9"], "--k must be at least 10, got 9"),
        (["minilm", "--data", "cats", "--recall-at", "1,200"], "--recall-at takes ranks from 1 to --k (100)"),
        (["minilm", "--data", "cats", "--recall-at", "one"], "separated by commas: 1,5,20; got one"),
        (["minilm", "--corpus", "books.txt", "--sentences", "1"], "--sentences must be at least 2, got 1"),
        (["minilm", "--corpus", "books.txt", "--split", "dev"], "--task and --split apply to judged queries"),
        (["nowhere/at/all", "--data", "cats"], "no model 'nowhere/at/all' here"),
        (["minilm", "--data", "nowhere"], "there is no file or folder nowhere"),
        (["minilm", "--data", "empty"], "empty has no corpus.jsonl"),
        (["minilm", "--data", "pairs.csv", "--task", "x"], "--task x applies to a folder, and pairs.csv is a file"),
        (["minilm", "--corpus", "nowhere"], "no file or folder has that path"),
    ],
)
def test_what_is_wrong_is_answered_before_torch_is_imported(arguments, message, tmp_path):
    write_beir(tmp_path / "cats")
    (tmp_path / "empty").mkdir()
    (tmp_path / "pairs.csv").write_text(TABLES[".csv"])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "eval.search", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--max-queries" in done.stdout
    assert not any(name in done.stderr for name in ("torch", "numpy", "transformers", "datasets"))


def test_a_task_of_ones_own():
    """From Python, with any encoder and passages in a list."""
    passages = [f"passage number {i}" for i in range(30)]
    task = SearchTask("numbers", ["passage number 7", "number"], ListedPassages(passages), [{7: 1.0}, {1: 1.0, 2: 2.0}])
    scores = measure_search(Hashed(), task, 30)
    assert scores.items["MRR@10"].values[0] == 1 and (scores.items["recall@30"].values == 1).all()
    assert scores.score == "cosine"
