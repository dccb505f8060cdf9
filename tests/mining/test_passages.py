"""Mined hard negatives of passages equal loops over texts: the pool, what is left out, what is near, and batches."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sentemb.corpus import open_corpus
from sentemb.encoders import read_model, tokenizer_of
from sentemb.errors import InputError
from sentemb.mining import (
    MinedSpec,
    PassageTexts,
    WordSearch,
    finished_miner,
    mine_negatives,
    passage_pool,
    passage_task,
    search_by_model,
)
from sentemb.mining import mine as mine_module
from sentemb.mining import passages as passages_module
from sentemb.pairs import draw_chances
from sentemb.training import BatchDataset, TrainingData
from tests.mining.test_search import bm25_by_loop
from tests.pairs.test_passages import made, write_table

LENGTH, SEED = 60, 3
NOUNS = ("cat", "dog", "king", "queen", "ship", "poet", "child", "judge")
KINDS = ("title", "inverse_cloze")


def rows_of_table() -> list[dict[str, str]]:
    """Sections with equal titles, with equal texts, and with sentences in common."""
    return [
        {
            "document": f"d{i // 3}",
            "title": f"The {NOUNS[i % 5]}",
            "text": " ".join(f"The {NOUNS[(j * k + k) % 8]} sees the {NOUNS[(j + k) % 7]}." for k in range(2 + j % 3)),
        }
        for i in range(42)
        for j in [i % 19]
    ]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    spec = f"table:path={write_table(tmp_path, rows_of_table())},title=title,document=document,split_sentences=true"
    return open_corpus(spec, progress=False)


def pairs_of(corpus, kind: str, model: str, more: str = ""):
    tokenizer = tokenizer_of(read_model(Path(model), "cpu"))
    pairs, _, sides = made(corpus, f"passages:kind={kind}{more}", LENGTH, tokenizer)
    return pairs, sides


def texts_of(corpus, pairs, size: int = 0) -> PassageTexts:
    return PassageTexts(corpus, pairs, passage_pool(pairs, size, SEED), SEED)


def body_of(corpus, bounds, kind: str) -> str:
    return " ".join(corpus.sentences(range(int(bounds[0]) + (kind == "title"), int(bounds[1]) + 1)))


def drawn_by_loop(corpus, pairs, kind: str) -> list[tuple[str, str]]:
    """Anchor and positive of each pair in the first epoch."""
    out = []
    chances = draw_chances(SEED, 0, np.arange(len(pairs)))
    for (first, last), drawn in zip(np.asarray(pairs.rows).tolist(), chances, strict=True):
        texts = corpus.sentences(range(first, last + 1))
        if kind == "title":
            out.append((texts[0], " ".join(texts[1:])))
            continue
        anchor = texts[int(drawn[0] * len(texts))]
        out.append((anchor, " ".join(text for text in texts if text != anchor or drawn[1] >= 0.9)))
    return out


@pytest.mark.parametrize("kind", KINDS)
def test_the_pool_has_each_text_of_the_training_passages_once(kind, corpus, tiny):
    pairs, _ = pairs_of(corpus, kind, tiny)
    rows = np.asarray(pairs.rows)
    distinct = {body_of(corpus, bounds, kind) for bounds in rows}
    assert len(distinct) < len(rows)  # there are copies
    pool = passage_pool(pairs, 0, SEED)
    assert sorted(body_of(corpus, bounds, kind) for bounds in pool) == sorted(distinct)
    assert {tuple(bounds) for bounds in pool.tolist()} <= {tuple(bounds) for bounds in rows.tolist()}
    assert pool[:, 1].max() < corpus.split()[1].min()  # (what is held out comes last)
    assert (np.diff(pool[:, 0]) > 0).all()
    few = [passage_pool(pairs, 5, seed) for seed in (0, 0, 1, 2)]
    assert all(len({body_of(corpus, bounds, kind) for bounds in each}) == 5 for each in few)
    assert (few[0] == few[1]).all() and len({tuple(each.ravel()) for each in few}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_mined_are_the_texts_of_the_first_epoch(kind, corpus, tiny, monkeypatch):
    monkeypatch.setattr(passages_module, "READ", 7)
    pairs, sides = pairs_of(corpus, kind, tiny)
    texts = texts_of(corpus, pairs)
    rows = texts.open().sentences(slice(None))
    pool, drawn = rows[: len(texts.pool)], drawn_by_loop(corpus, pairs, kind)
    assert pool == [body_of(corpus, bounds, kind) for bounds in texts.pool]
    assert list(zip(rows[len(pool) :: 2], rows[len(pool) + 1 :: 2], strict=True)) == drawn
    data = BatchDataset(TrainingData(pairs, sides[0]), SEED, 8)
    tokenizer = tokenizer_of(read_model(Path(tiny), "cpu"))
    for step in range(len(data)):
        batch = data[step]
        for column, side in zip(batch.columns, (0, 1), strict=True):
            expected = [tokenizer.encode(drawn[number][side]).ids for number in batch.pair_indices]
            assert [row.tolist() for row in column] == expected


def test_what_decides_the_texts_has_a_corpus_of_its_own(corpus, tiny):
    pairs, sides = pairs_of(corpus, "inverse_cloze", tiny)
    texts, mask = texts_of(corpus, pairs), np.ones(len(corpus), dtype=bool)
    fewer = pairs.select(len(pairs) - 1, lambda numbers: numbers + 1)
    others = [
        replace(texts, seed=4),
        replace(texts, pool=texts.pool[1:]),
        replace(texts, pairs=fewer),
        replace(texts, pairs=replace(pairs, passages=replace(pairs.passages, sentence_mask=mask))),
        texts_of(corpus, pairs_of(corpus, "inverse_cloze", tiny, ",removal=1")[0]),
        texts_of(corpus, pairs_of(corpus, "title", tiny)[0]),
    ]
    keys = [each.open().fingerprint for each in [texts, *others]]
    assert len(set(keys)) == len(keys) and texts.open().fingerprint == keys[0]
    assert texts.open().language == corpus.language


def excluded_by_loop(texts: PassageTexts, kind: str) -> list[list[int]]:
    corpus, pairs = texts.corpus, np.asarray(texts.pairs.rows)
    anchors = [anchor for anchor, _ in drawn_by_loop(corpus, texts.pairs, kind)]
    bodies = [body_of(corpus, bounds, kind) for bounds in pairs]
    out = []
    for anchor, (first, last) in zip(anchors, pairs.tolist(), strict=True):
        positives = {body for body, other in zip(bodies, anchors, strict=True) if other == anchor}
        out.append(
            [
                place
                for place, (start, stop) in enumerate(texts.pool.tolist())
                if (start <= last and first <= stop)
                or anchor in corpus.sentences(range(start, stop + 1))
                or body_of(corpus, (start, stop), kind) in positives
            ]
        )
    return out


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("overlap", [False, True])
def test_no_pair_gets_what_is_its_own(kind, overlap, corpus, tiny, monkeypatch):
    monkeypatch.setattr(passages_module, "DRAWN", 7)
    pairs, _ = pairs_of(corpus, kind, tiny)
    if overlap:  # as the pairs of a function of one's own may do
        rows = np.asarray(pairs.rows)
        longer = np.stack([rows[:-1, 0], rows[1:, 1]], axis=1)
        pairs = replace(pairs, rows=np.concatenate([rows, longer[longer[:, 1] - longer[:, 0] < 7]]))
    texts = texts_of(corpus, pairs, 25)
    task = passage_task(texts, MinedSpec("x", per_anchor=1, pool=0, skip=0))
    excluded = task.excluded().of(np.asarray(task.pairs.rows))
    assert [places.tolist() for places in excluded] == excluded_by_loop(texts, kind)
    assert max(map(len, excluded)) > 1  # copies, and passages below equal titles


def mined(task, model: str):
    miner = finished_miner(model)
    return mine_negatives(task, miner.fingerprint, lambda: search_by_model(miner, task, LENGTH, "cpu", False))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", ["none", 0.02])
def test_negatives_by_a_model_are_the_nearest_that_may_be_one(kind, margin, corpus, tiny):
    spec = MinedSpec(tiny, per_anchor=3, pool=0, skip=2, margin=margin)
    pairs, _ = pairs_of(corpus, kind, tiny)
    texts = texts_of(corpus, pairs)
    places = mined(passage_task(texts, spec), tiny).of(np.arange(len(pairs)))
    model = read_model(Path(tiny), "cpu")
    model.max_seq_length = LENGTH

    def embedded(sentences) -> np.ndarray:
        rows = model.encode(sentences).astype(np.float16).astype(np.float64)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    drawn = drawn_by_loop(corpus, pairs, kind)
    pool = embedded([body_of(corpus, bounds, kind) for bounds in texts.pool])
    anchors, positives = (embedded([pair[side] for pair in drawn]) for side in (0, 1))
    assert (places >= 0).any()
    for number, left_out in enumerate(excluded_by_loop(texts, kind)):
        scores, chosen = pool @ anchors[number], places[number][places[number] >= 0]
        assert not set(chosen.tolist()) & set(left_out)
        ranked = np.sort(np.delete(scores, left_out))[::-1][2:]
        if margin != "none":
            limit = anchors[number] @ positives[number]
            ranked = ranked[ranked <= limit - margin * abs(limit)]
        # (float16 embeddings of encode's batches differ in the last bit: scores, and not passages, are compared)
        assert len(chosen) == pytest.approx(min(3, len(ranked)), abs=1)
        shared = min(len(chosen), len(ranked))
        assert scores[chosen][:shared] == pytest.approx(ranked[:shared], abs=2e-3)


def test_progress_counts_passages(corpus, tiny, capsys):
    pairs, _ = pairs_of(corpus, "inverse_cloze", tiny)
    texts = texts_of(replace(corpus, progress=True), pairs)
    mined(passage_task(texts, MinedSpec(tiny, per_anchor=2, pool=0, skip=1)), tiny)
    lines = [line for line in re.split(r"[\r\n]", capsys.readouterr().err) if line.startswith("miner: ")]
    assert re.search(r"^miner: \d+ passages x 32 in float16: .* passages/s\)$", lines[0])
    assert len(lines) > 1 and not any("sentences" in line for line in lines)


@pytest.mark.parametrize("kind", KINDS)
def test_negatives_by_words_have_the_scores_of_the_formula(kind, corpus, tiny):
    pytest.importorskip("bm25s", reason="bm25s is not installed (the extra bm25)")
    spec = MinedSpec("bm25", per_anchor=2, pool=0, skip=1)
    pairs, _ = pairs_of(corpus, kind, tiny)
    texts = texts_of(corpus, pairs)
    task = passage_task(texts, spec)
    mined_by_words = mine_negatives(task, "words", lambda: WordSearch.of(task.corpus, task.pool, spec))
    places = mined_by_words.of(np.arange(len(pairs)))
    bodies = [body_of(corpus, bounds, kind) for bounds in texts.pool]
    assert (places >= 0).any()
    left_out, drawn = excluded_by_loop(texts, kind), drawn_by_loop(corpus, pairs, kind)
    for number, (anchor, _) in enumerate(drawn):
        scores = np.array(bm25_by_loop(anchor, bodies))
        chosen = places[number][places[number] >= 0]
        ranked = np.sort(np.delete(scores, left_out[number]))[::-1]
        expected = ranked[ranked > 0][1:3]
        assert scores[chosen] == pytest.approx(expected, abs=1e-4)


class Killed(BaseException):
    """As a signal that ends the process: nothing tidies up."""


@pytest.mark.parametrize("place", ["texts", "search"])
def test_a_killed_process_goes_on_and_its_bytes_are_those_of_one_in_one_go(place, corpus, tiny, monkeypatch):
    monkeypatch.setattr(mine_module, "CHUNK", 5)
    monkeypatch.setattr(passages_module, "READ", 5)
    pairs, _ = pairs_of(corpus, "inverse_cloze", tiny)
    spec = MinedSpec(tiny, per_anchor=2, pool=30, skip=1)
    texts = texts_of(corpus, pairs, 30)

    def all_bytes() -> dict[str, bytes]:
        folder = corpus.folder.parent
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    straight = mined(passage_task(texts, spec), tiny)
    expected = all_bytes()
    shutil.rmtree(straight.folder.parent)  # the corpus of the texts, with all that is made of it
    owner, name = {
        "texts": (passages_module, "_joined"),
        "search": (passages_module.ExcludedPassages, "of"),
    }[place]
    plain, calls = getattr(owner, name), []

    def counting(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise Killed
        return plain(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(owner, name, counting)
        with pytest.raises(Killed):
            mined(passage_task(texts, spec), tiny)
    made_again = mined(passage_task(texts, spec), tiny)
    assert made_again.folder == straight.folder and all_bytes() == expected


class Fixed:
    """Hard negatives that a test chooses."""

    def __init__(self, places):
        self.places, self.per_pair = np.asarray(places), len(places[0])

    def of(self, numbers):
        return self.places[numbers]


@pytest.mark.parametrize("prompts", [("", ""), ("a: ", "b: ")])
@pytest.mark.parametrize("kind", KINDS)
def test_batches_have_the_texts_of_the_negatives_and_their_ids(kind, prompts, corpus, tiny):
    tokenizer = tokenizer_of(read_model(Path(tiny), "cpu"))
    pairs, _, sides = made(corpus, f"passages:kind={kind}", LENGTH, tokenizer, prompts)
    rows = np.asarray(pairs.rows)
    places = np.stack([(np.arange(len(rows)) + shift) % len(rows) for shift in (1, 5)], axis=1)
    places[2, 1] = -1
    pairs = replace(pairs, negatives=Fixed(places), passages=replace(pairs.passages, candidates=rows))
    data = BatchDataset(TrainingData(pairs, *sides), SEED, len(pairs))
    assert pairs.num_hard_negatives == 2
    without = 0
    for epoch in (0, 1):
        batch = data[epoch]
        assert len(batch.columns) == 4 and batch.ids.shape == (len(pairs), 4)
        assert batch.prompt_lengths == tuple(sides[side].prompt_length for side in (0, 1, 1, 1))
        plain = BatchDataset(TrainingData(replace(pairs, negatives=None), *sides), SEED, len(pairs))[epoch]
        assert (batch.ids[:, :2] == plain.ids).all()
        ids_of_passages = dict(zip(batch.pair_indices.tolist(), batch.ids[:, 1].tolist(), strict=True))
        for number, anchor, first, second, ids in zip(
            batch.pair_indices.tolist(), *(batch.columns[i] for i in (0, 2, 3)), batch.ids.tolist(), strict=True
        ):
            query = corpus.sentences(range(*rows[number] + [0, 1]))
            (query,) = [text for text in query if tokenizer.encode(prompts[0] + text).ids == anchor.tolist()][:1]
            for column, negative, key in ((0, first, ids[2]), (1, second, ids[3])):
                place = int(places[number, column])
                holds = place >= 0 and query in corpus.sentences(range(*rows[place] + [0, 1]))
                without += place < 0 or holds
                text = query if place < 0 or holds else body_of(corpus, rows[place], kind)
                assert negative.tolist() == tokenizer.encode(prompts[1] + text).ids
                assert key == (ids[0] if place < 0 or holds else ids_of_passages[place])
    assert without > 2  # the missing one, and some that hold a copy of the anchor


def test_a_pool_that_is_too_small_is_refused_before_any_text_is_written(corpus, tiny):
    pairs, _ = pairs_of(corpus, "title", tiny)
    texts = texts_of(corpus, pairs, 9)
    with pytest.raises(InputError, match=r"pool for hard negatives has 9 distinct passages of .*skip=10 needs 13"):
        passage_task(texts, MinedSpec("x", per_anchor=1, pool=0))
    assert len(list(corpus.folder.parent.iterdir())) == 1
