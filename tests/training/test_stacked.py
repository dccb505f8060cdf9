"""Encoders trained together: each ends where it ends alone, and what befalls one is none of the others'."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from sentemb.corpus import open_corpus
from sentemb.encoders import ENCODERS, HEADS, tokenizer_of, towers_of, two_towers
from sentemb.errors import InputError
from sentemb.forward import StackedEncoder, TrainingEncoder, collate_tokens, stacking_shape
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import PAIRS, drop_unusable_pairs
from sentemb.registry import build
from sentemb.training import Evaluation, FitResult, Lane, RunTarget, TrainingData, TrainingSettings, fit, fit_stacked
from tests.helpers import SMALL, STATIC, records, steady

SETTINGS = TrainingSettings(max_steps=20, batch_size=8, lr=1e-2, eval_every=6, save_every=7, log_every=5, keep=0)
DIFFERENT = [  # of three lanes: what they do not share
    ("infonce:temperature=0.1", "none", {"lr": 1e-2, "warmup": 3}),
    ("align_uniform:align=0.7,weight=0.3", "none", {"lr": 3e-3, "weight_decay": 0.1, "clip": 0.1}),
    ("vicreg", "projection:out=4", {"lr": 2e-2, "warmup": 0, "eval_every": 4, "save_every": 5}),
]
MORE = [("moco:queue=12,momentum=0.9", "none", {}), ("infonce:learn=yes", "mlp", {}), ("ntxent", "none", {})]
PAIRWISE = "neighbours"
FIRST_WORDS = ["the king sees the cat number 3.", "hello"]


@pytest.fixture
def stack(book_file, tmp_path):
    """Makes the data of small encoders, and lanes of them."""
    corpus = open_corpus(str(book_file))
    ranges, _ = corpus.split()

    class Stack:
        def encoder(self, spec: str, two: bool = False, dtype: torch.dtype = torch.float64):
            torch.manual_seed(0)
            made = [build(ENCODERS, spec, texts=lambda: corpus.sentences(range(60)), max_length=12) for _ in "fg"]
            return (two_towers(*made) if two else made[0]).to(dtype)

        def data(self, spec: str, pairs: str = PAIRWISE) -> TrainingData:
            tokens = corpus.tokens(tokenizer_of(self.encoder(spec)), 12)
            return TrainingData(drop_unusable_pairs(build(PAIRS, pairs, ranges=ranges), tokens), tokens)

        def lane(
            self, folder: str, spec: str, different=DIFFERENT[0], two: bool = False, dtype=torch.float64, **more
        ) -> Lane:
            objective, head, settings = different
            model = self.encoder(spec, two, dtype)
            torch.manual_seed(1)
            top = build(HEADS, head, dimension=int(towers_of(model)[0].get_embedding_dimension() or 0))
            encoder = TrainingEncoder(model, top.to(dtype) if top is not None else None)
            return Lane(
                encoder,
                build(OBJECTIVES, objective),
                replace(SETTINGS, **settings | more),
                RunTarget(tmp_path / folder),
                Evaluation(score, "dev"),
            )

    return Stack()


def score(model) -> dict[str, float]:
    return {"dev": float(np.square(model.encode(FIRST_WORDS)).sum())}


def alone(lane: Lane, data: TrainingData, resume: bool = False) -> FitResult:
    target = replace(lane.target, resume=resume)
    return fit(lane.encoder, lane.objective, data, lane.settings, Accelerator(cpu=True), target, lane.evaluation)


def weights(lane: Lane) -> dict[str, torch.Tensor]:
    return {**lane.encoder.state_dict(), **{f"objective {k}": v for k, v in lane.objective.state_dict().items()}}


def assert_same(observed: Lane, expected: Lane, tolerance: float = 1e-9) -> None:
    ours, theirs = weights(observed), weights(expected)
    assert set(ours) == set(theirs)
    for name, value in theirs.items():
        assert torch.allclose(ours[name], value, rtol=0, atol=tolerance), name


def assert_same_log(observed: Lane, expected: Lane) -> None:
    ours, theirs = steady(observed.target.folder), steady(expected.target.folder)
    assert ours[0].pop("stacked") > 1 and len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert set(one) == set(other)
        for name, value in other.items():
            number = isinstance(value, float)
            assert one[name] == (pytest.approx(value, rel=1e-6, abs=1e-7) if number else value), name


CASES = {
    "static": {"spec": STATIC},
    "static, two towers": {"spec": STATIC, "two": True},
    "lstm": {"spec": SMALL},
    "gru": {"spec": SMALL + ",cell=gru"},
    "gru of two layers, out": {"spec": SMALL + ",cell=gru,layers=2,out=3"},
    "lstm, max, frozen words": {"spec": SMALL + ",pooling=max,train_embeddings=false"},
    "gru, last state, frozen words": {
        "spec": SMALL + ",cell=gru,bidirectional=false,pooling=last,train_embeddings=false"
    },
}


@pytest.mark.parametrize("case", CASES)
def test_each_lane_ends_with_the_weights_and_the_log_that_it_has_alone(case, stack):
    data = stack.data(CASES[case]["spec"])
    lanes = [stack.lane(f"stacked-{i}", different=different, **CASES[case]) for i, different in enumerate(DIFFERENT)]
    results = fit_stacked(lanes, data, Accelerator(cpu=True))
    for i, (different, lane, result) in enumerate(zip(DIFFERENT, lanes, results, strict=True)):
        single = stack.lane(f"alone-{i}", different=different, **CASES[case])
        before = weights(stack.lane("untouched", different=different, **CASES[case]))
        expected = alone(single, data)
        assert result == replace(expected, checkpoint=lane.target.folder / "checkpoints" / expected.checkpoint.name)
        assert_same(lane, single)
        assert_same_log(lane, single)
        trained = [name for name, p in lane.encoder.named_parameters() if p.requires_grad]
        assert any((weights(lane)[name] - before[name]).abs().max() > 1e-3 for name in trained)
        names = [sorted(p.relative_to(x.target.folder) for p in x.target.folder.rglob("*")) for x in (lane, single)]
        assert names[0] == names[1]  # of files


def test_queues_momentum_encoders_and_learned_temperatures_are_of_each_lane(stack):
    data = stack.data(SMALL)
    lanes = [stack.lane(f"stacked-{i}", SMALL, different) for i, different in enumerate(MORE)]
    fit_stacked(lanes, data, Accelerator(cpu=True))
    for i, (different, lane) in enumerate(zip(MORE, lanes, strict=True)):
        single = stack.lane(f"alone-{i}", SMALL, different)
        alone(single, data)
        assert_same(lane, single)


def test_runs_of_consecutive_sentences_are_stacked_too(stack):
    data = stack.data(STATIC, "contiguous")
    several = [("joint_infonce", "none", {}), ("cpc:offsets=2", "none", {}), ("infonce", "none", {})]
    lanes = [stack.lane(f"stacked-{i}", STATIC, different) for i, different in enumerate(several)]
    fit_stacked(lanes, data, Accelerator(cpu=True))
    for i, (different, lane) in enumerate(zip(several, lanes, strict=True)):
        single = stack.lane(f"alone-{i}", STATIC, different)
        alone(single, data)
        assert_same(lane, single)


class Breaks(torch.nn.Module):
    """Gives embeddings that are not finite from the fourth forward on."""

    def __init__(self):
        super().__init__()
        self.linear, self.calls = torch.nn.Linear(12, 12), 0

    def forward(self, x):
        self.calls += 1
        return self.linear(x) * (torch.inf if self.calls > 3 else 1)


def test_a_lane_that_diverges_is_taken_out_and_the_others_go_on_as_if_it_had_not_been(stack):
    data = stack.data(SMALL)
    lanes = [stack.lane(f"stacked-{i}", SMALL, DIFFERENT[i % 2]) for i in range(3)]
    lanes[0].encoder.head = Breaks().double()
    results = fit_stacked(lanes, data, Accelerator(cpu=True))
    assert isinstance(results[0], FloatingPointError) and "step 4" in str(results[0])
    assert (lanes[0].target.folder / "nonfinite-step-4.json").is_file()
    assert records(lanes[0].target.folder)[-1]["step"] < 4
    for i in (1, 2):
        single = stack.lane(f"alone-{i}", SMALL, DIFFERENT[i % 2])
        assert results[i].step == alone(single, data).step == 20
        assert_same(lanes[i], single)
        assert_same_log(lanes[i], single)


def test_a_lane_whose_scores_or_objective_fail_is_taken_out_alone(stack):
    data = stack.data(STATIC)

    def fails(model):
        raise InputError("no such text")

    lanes = [stack.lane(f"stacked-{i}", STATIC) for i in range(3)]
    lanes[0] = replace(lanes[0], evaluation=Evaluation(fails, "dev"))
    lanes[1].objective.loss = lambda x, y, extras: 1 / 0
    results = fit_stacked(lanes, data, Accelerator(cpu=True))
    assert str(results[0]) == "no such text" and isinstance(results[1], ZeroDivisionError)
    single = stack.lane("alone", STATIC)
    assert results[2].step == alone(single, data).step
    assert_same(lanes[2], single)


@pytest.mark.parametrize("spec", [STATIC, SMALL + ",cell=gru"])
def test_lanes_resume_from_their_checkpoints_to_the_same_bits(spec, stack):
    data = stack.data(spec)
    several = [(objective, head, {"lr": different["lr"]}) for objective, head, different in DIFFERENT]
    more = {"save_every": 8, "dtype": torch.float32}  # (a GRU's checkpoint is read as float32)
    straight = [stack.lane(f"straight-{i}", spec, different, **more) for i, different in enumerate(several)]
    fit_stacked(straight, data, Accelerator(cpu=True))
    cut = [stack.lane(f"cut-{i}", spec, different, **more) for i, different in enumerate(several)]
    fit_stacked(cut, data, Accelerator(cpu=True))
    for lane in cut:  # as if killed between steps 8 and 16
        for step in (16, 20):
            (lane.target.folder / "checkpoints" / f"step-{step}").rename(lane.target.folder / f"lost-{step}")
    again = [stack.lane(f"cut-{i}", spec, different, **more) for i, different in enumerate(several)]
    again = [
        replace(lane, target=replace(lane.target, resume=True, caller_files=("lost-16", "lost-20"))) for lane in again
    ]
    results = fit_stacked(again, data, Accelerator(cpu=True))
    assert [result.step for result in results] == [20, 20, 20]
    for lane, expected in zip(again, straight, strict=True):
        assert_same(lane, expected, 0)
        assert steady(lane.target.folder) == steady(expected.target.folder)


def test_a_lane_that_resumes_from_another_step_is_left_out(stack):
    data = stack.data(STATIC)
    alone(stack.lane("a", STATIC, max_steps=7, warmup=2), data)
    lanes = [stack.lane(name, STATIC, warmup=2) for name in "ba"]
    lanes[1] = replace(lanes[1], target=replace(lanes[1].target, resume=True))
    results = fit_stacked(lanes, data, Accelerator(cpu=True))
    assert results[0].step == 20 and isinstance(results[1], InputError) and "resumes from step 7" in str(results[1])


def test_what_cannot_be_stacked_has_no_key_and_is_refused(stack, tmp_path):
    lane = stack.lane("a", STATIC)
    assert lane.stacking_key is not None
    assert stack.lane("a", STATIC, DIFFERENT[1]).stacking_key == lane.stacking_key
    assert stack.lane("a", STATIC, seed=1).stacking_key != lane.stacking_key
    assert stack.lane("a", STATIC, batch_size=9).stacking_key != lane.stacking_key
    assert stack.lane("a", STATIC + ",out=4").stacking_key not in (None, lane.stacking_key)
    assert stack.lane("a", STATIC, micro_batch=4).stacking_key is None
    assert stack.lane("a", STATIC, micro_batch=8).stacking_key is not None
    assert stack.lane("a", STATIC, compile=True).stacking_key is None
    assert stack.lane("a", STATIC + ",dropout=0.1").stacking_key is None
    assert stack.lane("a", STATIC, ("memory_bank:negatives=4", "none", {})).stacking_key is None
    with pytest.raises(InputError, match="cannot be trained together"):
        fit_stacked([lane, stack.lane("b", SMALL)], stack.data(STATIC), Accelerator(cpu=True))
    assert not (tmp_path / "a").exists()


def test_a_transformer_is_not_stacked(encoder):
    assert stacking_shape(TrainingEncoder(encoder("transformer:name=TINY,dropout=0"))) is None
    with pytest.raises(ValueError, match="can be stacked"):
        StackedEncoder([TrainingEncoder(encoder("transformer:name=TINY,dropout=0"))])


SKIP = SMALL + ",cell=gru,pooling=max,train_embeddings=false,skip=mean"


@pytest.mark.parametrize("spec", [STATIC, SMALL, SMALL + ",cell=gru,pooling=max,train_embeddings=false", SKIP])
def test_the_stacked_forward_is_each_encoders_own(spec, stack):
    models = [stack.encoder(spec) for _ in range(3)]
    for i, model in enumerate(models):
        with torch.no_grad():
            for weight in model.parameters():
                if weight.requires_grad:
                    weight.add_(i * 0.1)
    rows = [np.arange(3, 3 + n) for n in (4, 1, 7, 2)]
    encoders = [TrainingEncoder(model) for model in models]
    outputs = StackedEncoder(encoders)(collate_tokens(models[0], rows))
    for output, one in zip(outputs, encoders, strict=True):
        assert torch.allclose(output, one(collate_tokens(models[0], rows)), rtol=0, atol=1e-12)
    assert (outputs[0] - outputs[1]).abs().max() > 1e-3
