"""Optimisers: torch's own get the options, and move weights as the papers' formulas say."""

import pytest
import torch
from safetensors.torch import load_file

from sentemb.errors import InputError
from sentemb.registry import build
from sentemb.training import TrainingSettings
from sentemb.training.optimizers import OPTIMIZERS
from tests.devices import DEVICE, DOUBLE, normal, numbers
from tests.helpers import STATIC, records


def test_options_reach_torch():
    weights = [torch.nn.Parameter(torch.ones(2))]
    adamw = build(OPTIMIZERS, "adamw:beta1=0.8,beta2=0.98,eps=1e-6").of(weights, 0.1, 0.2)
    assert type(adamw) is torch.optim.AdamW
    expected = {"lr": 0.1, "betas": (0.8, 0.98), "eps": 1e-6, "weight_decay": 0.2, "fused": True, "amsgrad": False}
    assert {name: adamw.defaults[name] for name in expected} == expected
    adam = build(OPTIMIZERS, "adam:beta2=0.95").of(weights, 0.1, 0.2)
    assert type(adam) is torch.optim.Adam and adam.defaults["betas"] == (0.9, 0.95)
    assert adam.defaults["weight_decay"] == 0.2 and not adam.defaults["decoupled_weight_decay"]
    sgd = build(OPTIMIZERS, "sgd:momentum=0.7").of(weights, 0.1, 0.2)
    assert type(sgd) is torch.optim.SGD and sgd.defaults["momentum"] == 0.7 and sgd.defaults["weight_decay"] == 0.2
    assert build(OPTIMIZERS, TrainingSettings().optimizer).of(weights, 1, 0).defaults["betas"] == (0.9, 0.999)


def by_hand(spec: str, w: torch.Tensor, gradients: list[torch.Tensor], lr: float, decay: float) -> torch.Tensor:
    """Kingma & Ba 2015, algorithm 1; Loshchilov & Hutter 2019, algorithm 2; SGD with momentum 0.5."""
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    for t, slope in enumerate(gradients, 1):
        if spec.startswith("adamw"):
            w = w - lr * decay * w
        else:
            slope = slope + decay * w
        if spec.startswith("sgd"):
            m = 0.5 * m + slope
            w = w - lr * m
            continue
        m, v = 0.8 * m + 0.2 * slope, 0.9 * v + 0.1 * slope**2
        w = w - lr * (m / (1 - 0.8**t)) / ((v / (1 - 0.9**t)).sqrt() + 1e-3)
    return w


@numbers
@pytest.mark.parametrize(
    "spec", ["adamw:beta1=0.8,beta2=0.9,eps=1e-3", "adam:beta1=0.8,beta2=0.9,eps=1e-3", "sgd:momentum=0.5"]
)
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_updates_are_those_of_the_formulas(spec, decay):
    gradients, begun = [normal(5, seed=seed) for seed in range(4)], normal(5, seed=9)
    weight = torch.nn.Parameter(begun.clone())
    optimizer = build(OPTIMIZERS, spec).of([weight], 0.1, decay)
    for slope in gradients:
        weight.grad = slope.clone()
        optimizer.step()
    assert weight.device.type == DEVICE.type
    assert (weight.detach() - by_hand(spec, begun, gradients, 0.1, decay)).abs().max() < DOUBLE


def test_a_run_is_trained_by_the_optimizer_of_its_settings(job):
    state = {"adamw": "exp_avg_sq", "adam:beta2=0.9": "exp_avg_sq", "sgd:momentum=0.5": "momentum_buffer"}
    losses = []
    for number, (spec, name) in enumerate(state.items()):
        run = job(str(number), spec=STATIC, optimizer=spec, weight_decay=0.1, max_steps=4, save_every=4, log_every=1)
        assert f"0.{name}" in load_file(run / "checkpoints" / "step-4" / "training.safetensors")
        losses.append(records(run)[-1]["loss"])
    assert len(set(losses)) == 3


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("adamv", "unknown optimizer 'adamv'.*did you mean 'adam'"),
        ("sgd:beta1=0.9", "unknown option of optimizer 'sgd' 'beta1'; valid: momentum"),
        ("adamw:beta2=1", r"beta2 must lie in \[0, 1\), got 1.0"),
        ("adamw:eps=0", "eps must be above 0"),
        ("sgd:momentum=x", "momentum.*is a number"),
    ],
)
def test_wrong_optimizers_are_refused_in_one_line(spec, message):
    with pytest.raises(InputError, match=message) as caught:
        TrainingSettings(optimizer=spec)
    assert "\n" not in str(caught.value)
