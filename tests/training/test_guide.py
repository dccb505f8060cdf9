"""A guide's embeddings reach the objective in every kind of batch; micro-batches, processes and resumed runs agree."""

from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb.corpus import Tokens
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.objectives import OBJECTIVES, GuideMargin, Objective, build_objective
from sentemb.pairs import Pairs, contiguous, dropout, neighbours
from sentemb.training import BatchDataset, Guide, TeacherArray, TrainingData, refuse_misfit
from sentemb.training.log import TrainingMonitor
from sentemb.training.state import TrainState
from sentemb.training.step import global_loss
from tests.devices import GPU, SINGLE, near, numbers
from tests.helpers import SMALL, STATIC, records, steady, torchrun
from tests.training.test_loop import same
from tests.two_processes import hash_of, trained

TESTS = Path(__file__).parents[1]
SENTENCES = 40
EMBEDDINGS = np.arange(SENTENCES * 3, dtype=np.float16).reshape(SENTENCES, 3)  # row i begins with 3 i
RANGES = np.array([[0, 25], [25, SENTENCES]])
GUIDED = [name for name, kind in OBJECTIVES.items() if "guide" in kind.takes]
CASES = [f"{STATIC}|{spec}|guide" for spec in (*GUIDED, "moco:queue=10,symmetric=yes,in_batch=yes", "cpc:offsets=2")]


class Seeing(Objective):
    """Remembers the views and the extras of its last batch."""

    takes = frozenset({"guide", "negatives"})
    normalise = False

    def _ready(self, x, y, extras):
        self.seen = x.detach(), y.detach(), extras
        return super()._ready(x, y, extras)

    def loss(self, x, y, extras):
        return x.sum() + y.sum()


class SeeingRuns(Seeing):
    """The same of runs."""

    takes = frozenset({"runs", "guide"})


def source(pairs: Pairs, world: int = 1, rank: int = 0, towers: int = 1, rows=EMBEDDINGS) -> BatchDataset:
    """Batches of sentences of one token, the sentence's number."""
    tokens = Tokens(np.arange(SENTENCES).astype(np.uint16), np.arange(SENTENCES + 1))
    data = TrainingData(pairs, tokens, guide=Guide(TeacherArray(rows), GuideMargin(0.1, 0.2)))
    return BatchDataset(data, 0, 4, world, rank, towers=towers)


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
def test_each_sentence_comes_with_the_guide_s_embedding_of_it(kind, rank, towers, objective):
    dataset = source(KINDS[kind], world=2, rank=rank, towers=towers)
    for step in range(len(dataset)):
        batch, seeing = dataset[step], objective()
        columns = tuple(torch.tensor([[float(row[0])] for row in column]) for column in batch.columns)
        global_loss(seeing, columns, batch, Accelerator(cpu=True))
        x, y, extras = seeing.seen
        guide = extras.guide
        assert guide.x.dtype == torch.float32 and guide.margin == GuideMargin(0.1, 0.2)
        assert torch.equal(guide.x[:, :1], 3 * x) and torch.equal(guide.y[:, :1], 3 * y)
        if kind == "hard negatives":
            assert torch.equal(guide.negatives[:, :, :1], 3 * extras.negatives)
        else:
            assert guide.negatives is None


def test_a_batch_carries_one_row_a_sentence_whoever_makes_it():
    assert source(KINDS["dropout"])[0].guide.shape == (4, 1, 3)
    assert source(KINDS["hard negatives"])[0].guide.shape == (4, 4, 3)
    dataset = source(KINDS["neighbours"])
    batches = [[batch.guide for batch in dataset.batches(0, 12, workers)] for workers in (0, 2)]
    assert all(torch.equal(a, b) for a, b in zip(*batches, strict=True))
    with pytest.raises(InputError, match="the guide's array has 39 rows and the corpus 40 sentences"):
        source(KINDS["neighbours"], rows=EMBEDDINGS[:-1])


@pytest.mark.slow
def test_two_processes_mask_as_one_on_the_joined_batches(tmp_path):
    done = torchrun(str(TESTS / "two_processes.py"), str(tmp_path), *CASES, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    for case in CASES:
        encoder, objective, _ = case.split("|")
        one, two = (
            trained(encoder, objective, Accelerator(cpu=True), guided=True),
            torch.load(tmp_path / f"{hash_of(case)}.pt"),
        )
        assert two["world"] == 2
        same(two, one)
        assert two["shares"] == near(one["shares"], SINGLE) and 0 < max(one["shares"]) < 1


@numbers
@pytest.mark.parametrize("case", CASES)
def test_micro_batches_mask_as_the_undivided_batch(case):
    encoder, objective, _ = case.split("|")
    accelerator = Accelerator(cpu=not GPU)
    undivided, plain = (trained(encoder, objective, accelerator, guided=guided) for guided in (True, False))
    parts = trained(encoder, objective, accelerator, micro_batch=2, guided=True)
    same(parts, undivided)
    assert parts["shares"] == undivided["shares"] and undivided["losses"] != near(plain["losses"], SINGLE)


RESUMED = {
    "dropout pairs": {"spec": SMALL + ",layers=2,dropout=0.3", "pairs": "dropout", "guide": (4, 0.6)},
    "moco": {"spec": SMALL, "objective": "moco:queue=24", "guide": (4, 0.0)},
    "memory bank": {"spec": SMALL, "objective": "memory_bank:negatives=20", "guide": (4, 0.0)},
    "runs": {"spec": SMALL, "objective": "joint_infonce", "pairs": "contiguous", "guide": (3, 0.1)},
    "micro-batches": {"spec": SMALL, "objective": "infonce:symmetric=yes", "micro_batch": 5, "guide": (4, 0.0)},
}


@pytest.mark.parametrize("case", RESUMED)
def test_a_resumed_run_equals_one_in_one_go(case, job):
    settings = dict(max_steps=7, save_every=3, lr=1e-3, **RESUMED[case])
    straight, cut = job("a", **settings), job("b", **settings)
    (cut / "checkpoints" / "step-7").rename(cut / "lost-7")
    (cut / "checkpoints" / "step-6").rename(cut / "lost-6")  # as if killed after the first checkpoint
    resumed = job("b", resume=True, **settings)
    assert steady(resumed) == steady(straight)
    shares = [record["guide_masked"] for record in records(straight)]
    assert len(shares) > 3 and 0 < max(shares) < 1
    texts = ["the king sees the cat number 3.", "hello"]
    assert np.array_equal(load(resumed).encode(texts), load(straight).encode(texts))


def test_the_log_has_the_share_and_no_loss_of_guessing(job):
    guided, plain = job("a", guide=(4, 0.0), max_steps=4), job("b", max_steps=4)
    for record, without in zip(records(guided), records(plain), strict=True):
        assert 0 < record["guide_masked"] < 1 and "guide_masked" not in without
        assert record["loss_reference"] is None and "mutual_information" not in record
    assert records(guided)[0]["loss"] < records(plain)[0]["loss"]  # fewer negatives to tell the positive from


def test_a_guide_that_leaves_hardly_anything_is_warned_of_once():
    monitor = TrainingMonitor(TrainState())
    assert monitor.check_guide(0, None) is None and monitor.check_guide(0, 0.9) is None
    assert "the guide leaves out 97.5% of the negatives" in monitor.check_guide(5, 0.975)
    assert monitor.check_guide(10, 0.99) is None


def test_a_guide_without_use_is_refused(job):
    for spec in ("align_uniform", "barlow_twins", "mix:contrastive=0,align=1", "byol + vicreg"):
        with pytest.raises(InputError, match="has no negatives that a guide could leave out; choose a contrastive one"):
            job("a", objective=spec, guide=(4, 0.0))
    refuse_misfit(
        build_objective("infonce + vicreg"), KINDS["neighbours"], guide=source(KINDS["neighbours"]).data.guide
    )
    with pytest.raises(
        InputError, match=r"both sides of these pairs are one sentence, .* give --guide a margin above 0"
    ):
        job("a", pairs="dropout", guide=(4, 0.0))
