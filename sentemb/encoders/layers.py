"""The layers of a transformer: where they are, a transformer with only some of them, and embeddings of their states."""

import copy
import re
from collections.abc import Collection
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer, WeightedLayerPooling
from torch import Tensor, nn

from sentemb.errors import InputError

FIRST_LAST = "first_last"  # the name of two layers: the first one and the last one


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


def mean_of_layers(module: Transformer, numbers: Collection[int]) -> WeightedLayerPooling:
    """A stock module that replaces the last layer's token states by the mean of the states of some layers.

    The transformer returns the states of all layers from then on, and so does a checkpoint of it.

    Args:
        module: changed in place.
        numbers: of the layers, as in transformers' ``hidden_states``: 0 are the word embeddings, 1 the first layer.
    """
    model: Any = module.auto_model
    model.config.output_hidden_states = True
    count = int(model.config.num_hidden_layers)
    weights = torch.zeros(count + 1, device=model.device)
    weights[list(numbers)] = 1
    fixed = nn.Parameter(weights, requires_grad=False)
    return WeightedLayerPooling(module.get_embedding_dimension(), count, layer_start=0, layer_weights=fixed)


def first_and_last(count: int) -> set[int]:
    """The layers that ``first_last`` means, of ``count``: the first transformer layer and the last one.

    Source: Gao et al. 2021 (SimCSE, arXiv 2104.08821), ``avg_first_last``. Its code averages the output of the first
    layer and the last one since January 2022. Its paper's figures took the word embeddings for the first one.
    """
    return {1, count}


def at_layer(model: SentenceTransformer, layer: int | str) -> SentenceTransformer:
    """A model whose embedding is the mean, over a text's tokens, of one layer's hidden states.

    What comes after the transformer in ``model`` (its pooling, dense layers, normalisation) is left out. The weights
    are shared with ``model``, which does not change. All modules are stock ones.

    Args:
        model: one that begins with a transformer.
        layer: its number, 0 for the word embeddings with their positions; or ``first_last``, the mean of two layers
            (:func:`first_and_last`).

    Raises:
        InputError: the model has no layers, or not this one.
    """
    first: Any = model[0]
    count = getattr(first.auto_model.config, "num_hidden_layers", None) if isinstance(first, Transformer) else None
    if count is None:
        raise InputError("the model is not a transformer and has no layers; leave the layer out")
    if layer != FIRST_LAST and not re.fullmatch(r"\d{1,5}", str(layer)):
        raise InputError(f"a layer is a whole number, 0 for the word embeddings, or {FIRST_LAST}; got {layer!r}")
    numbers = first_and_last(count) if layer == FIRST_LAST else {int(layer)}
    if max(numbers) > count:
        raise InputError(f"it has no layer {layer}; give 1 to {count}, 0 for the word embeddings, or {FIRST_LAST}")
    weights = {id(tensor): tensor for tensor in (*first.parameters(), *first.buffers())}
    module = copy.deepcopy(first, weights)  # (which then are not copied)
    includes_prompt = all(part.include_prompt for part in model if isinstance(part, Pooling))
    pooling = Pooling(module.get_embedding_dimension(), "mean", include_prompt=includes_prompt)
    made = copy.copy(model)
    made._modules = {str(place): part for place, part in enumerate((module, mean_of_layers(module, numbers), pooling))}
    return made
