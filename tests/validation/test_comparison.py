"""Held-out ranks, the comparison of encoders, and sentences next to numbers."""

from zlib import crc32

import numpy as np
import pytest

from sentemb.corpus import open_corpus
from sentemb.validation import (
    HeldOutPairs,
    ItemScores,
    Sides,
    compare_encoders,
    held_out_geometry,
    held_out_items,
    held_out_pairs,
    held_out_ranks,
    nearest_examples,
)
from sentemb.validation import comparison as comparison_module


def embed(texts: list[str]) -> np.ndarray:
    """A random embedding of each text, the same at each call."""
    return np.array([np.random.default_rng(crc32(text.encode())).normal(size=8) for text in texts])


def test_the_document_of_each_pair_is_the_one_that_holds_its_sentences(book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus(str(book_file), progress=False)
    pairs = held_out_pairs(corpus)
    assert pairs.documents.shape == (len(pairs.first),)
    for first, second, document in zip(pairs.first, pairs.second, pairs.documents, strict=True):
        texts = corpus.sentences(np.arange(*corpus.documents[document : document + 2]))
        assert texts.index(second) == texts.index(first) + 1


def test_means_of_items_are_the_scores_in_the_table(book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    pairs = held_out_pairs(open_corpus(str(book_file), progress=False))
    for score in ("cosine", "dot"):
        sides = Sides(embed, lambda texts: embed(texts)[:, [7, 6, 5, 4, 3, 2, 1, 0]], score)
        geometry, items = held_out_geometry(sides, pairs), held_out_items(sides, pairs)
        for name, item in items.items():
            assert item.values.mean() == pytest.approx(geometry[name], abs=1e-6)  # a mean in float32
        for i, rank in enumerate(held_out_ranks(sides, pairs)):  # a loop over the candidates
            x, y = sides.first(pairs.first[i : i + 1])[0], sides.second(pairs.second)
            by = y @ x / (1 if score == "dot" else np.linalg.norm(y, axis=1))
            assert rank == pytest.approx(1 + (by > by[i] + 1e-12).sum() + ((abs(by - by[i]) < 1e-12).sum() - 1) / 2)


def items(values: np.ndarray, **more) -> ItemScores:
    return ItemScores(values.astype(float), **more)


def test_verdicts_of_what_is_clear_and_of_what_is_not():
    random = np.random.default_rng(0)
    base, noise = random.random(500), random.normal(size=500)
    gold = random.normal(size=500)
    scored = {
        "trained": {
            "up": items(base + 0.1 + 0.01 * noise),
            "down": items(base - 0.1 + 0.01 * noise),
            "same": items(base + 0.3 * noise),
            "sts": items(gold + 0.1 * noise, gold=gold, items="pairs", scale=100),
            "alone": items(base),
        },
        "minilm": {name: items(base) for name in ("up", "down", "same")} | {"sts": items(gold + 2 * noise, gold=gold)},
    }
    rows = {row["measure"]: row for row in compare_encoders(scored)}
    assert {name: row["verdict"] for name, row in rows.items()} == {
        "up": "better",
        "down": "worse",
        "same": "cannot tell",
        "sts": "better",
    }
    assert rows["up"]["difference"] == pytest.approx(0.1, abs=0.005) and rows["up"]["encoder"] == "trained"
    assert all(row["low"] <= row["difference"] <= row["high"] for row in rows.values())
    assert rows["sts"]["difference"] > 20 and rows["sts"]["n"] == 500  # x 100
    assert compare_encoders(scored) == compare_encoders(scored)


def test_documents_are_drawn_where_there_are_enough_of_them():
    values = np.random.default_rng(1).random(60)
    few, many = (np.arange(60) % n for n in (comparison_module.MIN_DOCUMENTS - 1, comparison_module.MIN_DOCUMENTS))
    for documents, units, drawn in ((few, 60, "pairs"), (many, 10, "documents"), (None, 60, "pairs")):
        scored = {
            name: {"mrr": items(part, documents=documents, items="pairs")}
            for name, part in zip("ab", (values, 1 - values), strict=True)
        }
        (row,) = compare_encoders(scored)
        assert (row["units"], row["drawn"], row["n"]) == (units, drawn, 60)
        assert row["documents"] == (None if documents is None else len(np.unique(documents)))


def test_the_mean_accuracy_is_of_tasks_drawn_each_by_itself():
    random = np.random.default_rng(2)
    right = {name: {task: random.random(400) < 0.7 for task in ("MR", "CR")} for name in ("a", "b")}
    scored = {
        name: {task: items(values, scale=100, accuracy=True) for task, values in tasks.items()}
        for name, tasks in right.items()
    }
    rows = {row["measure"]: row for row in compare_encoders(scored)}
    expected = np.mean([100 * (right["a"][task].mean() - right["b"][task].mean()) for task in ("MR", "CR")])
    assert rows["mean accuracy"]["difference"] == pytest.approx(expected)
    width = {name: row["high"] - row["low"] for name, row in rows.items()}
    assert width["mean accuracy"] == pytest.approx(np.hypot(width["MR"], width["CR"]) / 2, rel=0.1)


def test_a_single_item_is_no_comparison():
    assert compare_encoders({name: {"mrr": items(np.ones(1))} for name in "ab"}) == []


def test_examples_are_the_nearest_candidates_by_a_loop():
    first = [f"{'a' * (i % 5)} tale {'rest ' * (i % 3)}{i}" for i in range(30)]
    second = [f"{'e' * (i % 4)} {'sour ' * (i % 6)}{i}" for i in range(29)] + [first[3]]
    pairs = HeldOutPairs(first, second, "made up")
    examples = nearest_examples({"a": Sides(embed), "b": Sides(lambda texts: -(embed(texts)[:, ::-1] ** 2))}, pairs)
    assert examples["candidates"] == 30 and len(examples["sentences"]) == 10
    assert examples == nearest_examples({"a": Sides(embed), "b": Sides(lambda t: -(embed(t)[:, ::-1] ** 2))}, pairs)
    for each in examples["sentences"]:
        x = embed([each["sentence"]])[0]
        cosines = {
            text: float(embed([text])[0] @ x / np.linalg.norm(x) / np.linalg.norm(embed([text])[0]))
            for text in second
            if text != each["sentence"]
        }
        rows = each["neighbours"]["a"]
        assert [row[1] for row in rows] == pytest.approx(sorted(cosines.values())[:-4:-1], abs=1e-4)
        assert all(cosines[text] == pytest.approx(cosine, abs=1e-4) for text, cosine, _ in rows)
        assert each["positive"] == second[first.index(each["sentence"])]
        assert each["ranks"]["a"] == 1 + sum(c > cosines[each["positive"]] + 1e-12 for c in cosines.values())
        assert [row[2] for row in rows] == [row[0] == each["positive"] for row in rows]
