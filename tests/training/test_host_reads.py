"""An update asks its device for numbers once, after the backward pass: a read makes the host and the device wait.

The CPU plays a device here: reads of tensors are counted, and what is free to be read on a CPU is taken not to be.
"""

import contextlib
from collections import deque
from types import SimpleNamespace

import pytest
import torch
from accelerate import Accelerator

from sentemb.encoders import ENCODERS
from sentemb.forward import TrainingEncoder, collate
from sentemb.geometry import l2_normalize, uniformity
from sentemb.objectives import OBJECTIVES, build_objective, copied
from sentemb.registry import build
from sentemb.training import TrainingSettings, loop
from sentemb.training.data import Batch
from sentemb.training.momentum_encoder import MomentumEncoder
from sentemb.training.state import TrainState
from sentemb.training.step import BatchEncoder, Update, backward
from tests.devices import DOUBLE, SINGLE, normal
from tests.helpers import STATIC
from tests.training.test_guide import KINDS, source
from tests.two_processes import SENTENCES, TEACHER, batch_of

READS = ("item", "tolist", "nonzero", "unique", "__bool__", "__int__", "__float__", "__index__", "numpy", "cpu")
# What it chooses among depends on numbers that only the device has: which entries are stored.
READING = {"memory_bank"}
RUNS = [name for name, kind in OBJECTIVES.items() if "runs" in kind.needs]
PAIRWISE = [name for name in OBJECTIVES if name not in RUNS]


@contextlib.contextmanager
def counted_reads(monkeypatch):
    """The names of the reads of tensors meanwhile."""
    reads: list[str] = []

    def counting(name, before):
        def read(self, *arguments, **more):
            reads.append(name)
            return before(self, *arguments, **more)

        return read

    with monkeypatch.context() as patch:
        for module in ("geometry.metrics", "geometry.tiled_scores", "objectives.align_uniform", "forward.packed"):
            patch.setattr(f"sentemb.{module}.reads_are_free", lambda _: False)
        for name in READS:
            patch.setattr(torch.Tensor, name, counting(name, getattr(torch.Tensor, name)))
        yield reads


def prepared(objective: str, encoder: str):
    """A batch, its encoder, and an objective that has seen one."""
    torch.manual_seed(0)
    model = build(ENCODERS, encoder, "encoder", texts=lambda: ["a few words, and a few more"], max_length=16)
    embedder, made, accelerator = TrainingEncoder(model), build_objective(objective), Accelerator(cpu=True)
    width = embedder.dimension if any(term.teacher_is_start for term in made.terms()) else TEACHER
    made.teacher_dimension = width if "teacher" in made.needs else 0
    made.prepare(embedder.dimension, SENTENCES)
    momentum_encoder = MomentumEncoder(embedder) if "targets" in made.needs else None
    batch_encoder = BatchEncoder(embedder, accelerator, TrainingSettings(), momentum_encoder)
    batch = batch_of(0, objective, slice(0, 8), width=width)
    return batch_encoder, made, Batch(**vars(batch) | {"has_copies": True})


@pytest.mark.parametrize("objective", [*PAIRWISE, "infonce:symmetric=yes,same_side=yes", "infonce + align_uniform"])
def test_forward_and_backward_read_nothing(objective, monkeypatch):
    batch_encoder, made, batch = prepared(objective, STATIC)
    made.update(*backward(batch_encoder, made, batch, 1).objective_inputs)
    features = batch.features(batch_encoder.model, slice(0, 8), torch.device("cpu"))
    monkeypatch.setattr(Batch, "features", lambda *_: features)  # (made on the host)

    def gradients(update: Update) -> list[torch.Tensor]:
        slopes = [weight.grad for weight in batch_encoder.encoder.parameters() if weight.grad is not None]
        batch_encoder.encoder.zero_grad()
        return [update.loss_on_device, *slopes]

    batch_encoder.encoder.zero_grad()
    expected = gradients(backward(batch_encoder, made, batch, 2))
    with counted_reads(monkeypatch) as reads:
        update = backward(batch_encoder, made, batch, 2)
    assert bool(reads) == (objective in READING), reads
    assert len(expected) > 1
    for observed, slope in zip(gradients(update), expected, strict=True):
        assert torch.allclose(observed, slope, rtol=SINGLE, atol=SINGLE)


@pytest.mark.parametrize("ids", [None, [0, 1, 2, 3], [0, 1, 1, 3], [5, 5, 5, 5]])
def test_uniformity_without_a_read_is_the_same(ids, monkeypatch):
    x = l2_normalize(normal(4, 3)).requires_grad_()
    ids = None if ids is None else torch.tensor(ids)
    nothing_counts = ids is not None and len(ids.unique()) == 1
    expected = 0 * x.sum() if nothing_counts else uniformity(x, ids=ids)
    slopes = torch.autograd.grad(expected, x)
    with counted_reads(monkeypatch) as reads:
        observed = uniformity(x, ids=ids)
        of_observed = torch.autograd.grad(observed, x)
    assert not reads
    assert torch.allclose(observed, expected, atol=DOUBLE)
    assert torch.allclose(of_observed[0], slopes[0], atol=DOUBLE)


def test_a_transformer_s_packed_forward_reads_nothing(monkeypatch, tiny):
    batch_encoder, made, batch = prepared("infonce", f"transformer:name={tiny}")
    features = batch.features(batch_encoder.model, slice(0, 8), torch.device("cpu"))
    tokens = sum(len(row) for column in batch.columns for row in column)
    assert features[0]["token_count"] == tokens == int(features[0]["attention_mask"].sum())
    expected = batch_encoder.encoder(*[collate.tensors_of(each) for each in features])
    with counted_reads(monkeypatch) as reads:
        embeddings = batch_encoder.encoder(*features)
    assert not reads and torch.equal(embeddings, expected)


def test_the_loop_reads_loss_and_norm_together(monkeypatch):
    batch_encoder, made, batch = prepared("infonce", STATIC)
    parameters = list(batch_encoder.encoder.parameters())
    settings, nothing = TrainingSettings(eval_every=0, max_steps=9), lambda *_: None
    run = SimpleNamespace(
        settings=settings,
        state=TrainState(step=2),
        accelerator=Accelerator(cpu=True),
        objective=made,
        parameters=parameters,
        guard=SimpleNamespace(accepts=lambda update, _: update.loss + update.gradient_norm > 0),
        optimizer=torch.optim.AdamW(parameters, fused=True),
        momentum_encoder=None,
        steps=9,
        judges_late=False,
        unsettled=deque(),
    )
    update = backward(batch_encoder, made, batch, 2)
    before = [weight.detach().clone() for weight in parameters]
    log = SimpleNamespace(record=lambda update, _: f"{update.loss:.3f}")
    with counted_reads(monkeypatch) as reads:
        loop.apply_update(run, log, SimpleNamespace(evaluate=nothing), update, batch)
    assert reads == ["tolist"]
    assert any(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_the_host_knows_whether_a_sentence_is_in_two_pairs_of_an_update(kind, world):
    ranks = [source(KINDS[kind], world=world, rank=rank) for rank in range(world)]
    answers = set()
    for step in range(len(ranks[0])):
        batches = [rank[step] for rank in ranks]
        expected = copied(torch.cat([batch.ids for batch in batches]))
        assert [batch.has_copies for batch in batches] == [expected] * world
        answers.add(expected)
    assert (True in answers) == (kind == "neighbours")
