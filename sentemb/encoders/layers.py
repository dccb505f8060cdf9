"""The layers of a transformer: where they are, and a transformer with only some of them."""

import copy
import re
from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn

from sentemb.errors import InputError


def layer_stack(model: Any) -> tuple[nn.Module, str, nn.ModuleList] | None:
    """The list of a transformer's layers, with the module that it belongs to and its name there; None: there is none.

    Args:
        model: of transformers, with its ``config``.
    """
    stacks = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == model.config.num_hidden_layers
    ]
    return stacks[0] if len(stacks) == 1 else None


def probe(model: Any) -> dict[str, Tensor]:
    """Features of two short rows, to compare the states of two forms of one transformer."""
    ids = torch.full((2, 5), int(getattr(model.config, "pad_token_id", None) or 0) + 2, device=model.device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def layer_numbers(text: str, count: int, option: str = "keep_layers", first: int = 1) -> list[int]:
    """The layers that an option names.

    Args:
        text: ``A-B``, ``A+B+C`` or, where 0 is a number, too, ``A``. count: how many layers there are.
        option: the option's name, for the error. first: the lowest number: 1 for layers, 0 where the word embeddings
            count as one.

    Raises:
        ValueError: it is none of these, or numbers are beyond ``count``, there twice or not in order.
    """
    if match := re.fullmatch(r"(\d{1,5})-(\d{1,5})", text):
        numbers = list(range(int(match[1]), int(match[2]) + 1))
    elif re.fullmatch(r"\d{1,5}(\+\d{1,5})+", text) or (first == 0 and re.fullmatch(r"\d{1,5}", text)):
        numbers = [int(number) for number in text.split("+")]
    else:
        numbers = []
    if not numbers:
        raise ValueError(f"{option} is A-B or A+B+C, layers numbered from {first}, got {text!r}; write {option}=1-3")
    if outside := [number for number in numbers if not first <= number <= count]:
        raise ValueError(f"{option}={text} names layer {outside[0]}, and the layers are {first} to {count}")
    if sorted(set(numbers)) != numbers:
        raise ValueError(f"{option}={text} has a layer twice or out of order; write each once, the lowest first")
    return numbers


@torch.no_grad()
def keep_layers(module: Transformer, text: str) -> None:
    """Take all other layers out of a transformer, and out of its config, so that its checkpoint loads plainly.

    Args:
        module: changed in place.
        text: as for :func:`layer_numbers`.

    Raises:
        ValueError: as :func:`layer_numbers`.
        InputError: this kind of transformer has no list of layers, or they depend on their places in it.
    """
    model: Any = module.auto_model
    numbers = layer_numbers(text, int(model.config.num_hidden_layers))
    stack = layer_stack(model)
    if stack is None:
        raise InputError(f"{type(model).__name__} has no list of layers; leave keep_layers out")
    parent, name, layers = stack
    setattr(parent, name, nn.ModuleList(layers[number - 1] for number in numbers))
    model.config.num_hidden_layers = len(numbers)
    if kinds := getattr(model.config, "layer_types", None):
        model.config.layer_types = [kinds[number - 1] for number in numbers]
    try:
        same = _equals_a_loaded_one(model)
    except Exception:  # each architecture has its way to miss a layer
        same = False
    if not same:
        raise InputError(
            f"the layers of {type(model).__name__} depend on their places, so that a checkpoint of some of them would "
            "not be the same model; leave keep_layers out"
        )


def _equals_a_loaded_one(model: Any) -> bool:
    """Whether a model made from the config, with the same weights, gives the same states."""
    with torch.random.fork_rng(devices=[]):
        loaded = type(model)(copy.deepcopy(model.config)).to(model.dtype).eval()
    loaded.load_state_dict(model.state_dict())
    training = model.training
    states = [each.eval()(**probe(model)).last_hidden_state for each in (model, loaded)]
    model.train(training)
    return torch.allclose(states[0], states[1], atol=1e-5)
