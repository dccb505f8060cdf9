"""A teacher's embeddings reach the objective, of the right sentences in every kind of batch, and the student learns."""

import json

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb.corpus import Tokens
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.objectives import OBJECTIVES, Objective, build_objective
from sentemb.pairs import Pairs, contiguous, dropout, neighbours
from sentemb.registry import build
from sentemb.training import BatchDataset, TeacherArray, TrainingData, refuse_misfit
from sentemb.training.step import global_loss
from tests.helpers import STATIC, records

SENTENCES = 40
TEACHER = np.arange(SENTENCES * 3, dtype=np.float64).reshape(SENTENCES, 3)  # row i begins with 3 i
RANGES = np.array([[0, 25], [25, SENTENCES]])


class Seeing(Objective):
    """Remembers the views and the extras of its last batch."""

    needs = frozenset({"teacher"})
    normalise = False

    def loss(self, x, y, extras):
        self.seen = x.detach(), y.detach(), extras
        return x.sum() + y.sum()


class SeeingRuns(Seeing):
    """The same of runs."""

    takes = frozenset({"runs"})


def source(pairs: Pairs, world: int = 1, rank: int = 0, towers: int = 1, teacher=TEACHER) -> BatchDataset:
    """Batches of sentences of one token, the sentence's number."""
    tokens = Tokens(np.arange(SENTENCES).astype(np.uint16), np.arange(SENTENCES + 1))
    data = TrainingData(pairs, tokens, teacher=None if teacher is None else TeacherArray(teacher))
    return BatchDataset(data, 0, 4, world, rank, towers=towers)


def seen(batch, objective):
    """What the objective sees where a sentence's embedding is its number."""
    columns = tuple(torch.tensor([[float(row[0])] for row in column]) for column in batch.columns)
    global_loss(objective, columns, batch, Accelerator(cpu=True))
    return objective.seen


KINDS = {
    "neighbours": neighbours(RANGES),
    "dropout": dropout(RANGES),
    "contiguous": contiguous(RANGES),
    "hard negatives": Pairs(np.arange(SENTENCES).reshape(-1, 4)),
}


@pytest.mark.parametrize("objective", [Seeing, SeeingRuns])
@pytest.mark.parametrize("towers", [1, 2])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_each_view_comes_with_the_teacher_s_embedding_of_its_sentence(kind, rank, towers, objective):
    dataset = source(KINDS[kind], world=2, rank=rank, towers=towers)
    for step in range(len(dataset)):
        x, y, extras = seen(dataset[step], objective())
        assert extras.teacher[0].dtype == torch.float32 and extras.teacher[0].shape == (len(x), 3)
        assert torch.equal(extras.teacher[0][:, :1], 3 * x) and torch.equal(extras.teacher[1][:, :1], 3 * y)
        together = kind == "contiguous" and objective is SeeingRuns
        assert (kind == "dropout" or together) == torch.equal(x, y)


def test_a_batch_carries_the_teacher_once_where_both_sides_are_one_sentence_and_not_at_all_without_one():
    assert source(KINDS["dropout"])[0].teacher.shape == (4, 1, 3)
    assert source(KINDS["neighbours"])[0].teacher.shape == (4, 2, 3)
    assert source(KINDS["neighbours"], teacher=None)[0].teacher is None


def test_a_teacher_in_half_precision_and_several_workers_make_the_same_batches():
    dataset = source(KINDS["neighbours"], teacher=TEACHER.astype(np.float16))
    batches = [[batch.teacher for batch in dataset.batches(0, 12, workers)] for workers in (0, 2)]
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))


@pytest.mark.parametrize(
    ("embeddings", "message"),
    [
        (np.zeros((SENTENCES - 1, 3)), "has 39 rows and the corpus 40 sentences"),
        (np.zeros(SENTENCES), r"have shape \(40,\)"),
        (np.zeros((SENTENCES, 3), dtype=np.int64), "type int64; give floating-point numbers"),
        (np.where(TEACHER == 9, np.nan, TEACHER), "embedding of sentence 3 is not finite"),
    ],
)
def test_an_array_that_is_no_teacher_of_the_corpus_is_refused(embeddings, message):
    with pytest.raises(InputError, match=message):
        source(KINDS["neighbours"], teacher=embeddings)


def test_a_teacher_is_there_for_those_who_need_one_and_only_then(job):
    for spec in ("distill", "distill_similarity", "infonce + distill*0.5"):
        with pytest.raises(InputError, match=r"objective distill\w* needs a teacher's embeddings; give --teacher"):
            job("a", objective=spec)
    with pytest.raises(InputError, match=r"infonce \+ simple does not use a teacher; choose distill"):
        job("a", objective="infonce + simple", teacher=3)
    with pytest.raises(InputError, match="distill takes no hard negatives"):
        refuse_misfit(build(OBJECTIVES, "distill"), KINDS["hard negatives"], 1, TeacherArray(TEACHER))
    refuse_misfit(build_objective("distill + infonce"), KINDS["hard negatives"], 1, TeacherArray(TEACHER))
    with pytest.raises(InputError, match="model's have 5 dimensions and the teacher's 3; give the encoder out=3"):
        job("a", spec=STATIC, objective="infonce + distill:map=none", teacher=3)


def test_the_student_comes_near_its_teacher_and_what_is_saved_is_a_stock_model(job):
    spec, settings = "static:embeddings=random,dim=24", dict(objective="distill", teacher=7, max_steps=60, lr=3e-2)
    mapped = job("mapped", spec=spec, **settings)
    alone = job("alone", spec=f"{spec},out=7", **settings)
    for run, dimension in ((mapped, 24), (alone, 7)):
        losses = [record["loss"] for record in records(run)]
        assert losses[-1] < 0.8 * losses[0]
        assert load(run).encode("hello").shape == (dimension,)
        types = [module["type"] for module in json.loads((run / "model" / "modules.json").read_text())]
        assert all(kind.startswith("sentence_transformers.") for kind in types)


def test_the_log_has_the_loss_of_each_part_of_a_sum(job):
    run = job("a", objective="distill*2 + infonce:temperature=0.1*0.5", teacher=7, max_steps=4)
    for record in records(run):
        parts = 2 * record["loss_distill"] + 0.5 * record["loss_infonce"]
        assert record["loss"] == pytest.approx(parts, rel=1e-5) and record["loss_reference"] is None
