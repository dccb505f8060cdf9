"""LoRA: a transformer's weights stay as they are, and some of its linear layers learn a product of two small matrices.

The library peft does it (the extra ``lora``), in place: the model stays a SentenceTransformer of the same modules. It
is saved as a plain model: :func:`without_adapters` adds each product to the weight of its layer meanwhile, in a copy.
"""

import copy
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import nn

from sentemb.encoders.two_tower import towers_of
from sentemb.errors import InputError
from sentemb.registry import build, parse_options

ADAPTER = "default"  # peft's name of the only adapter


@dataclass(frozen=True)
class LoraSettings:
    """The options of ``--lora``.

    Args:
        rank: rows of the first matrix of a product, columns of the second.
        alpha: a product is multiplied by alpha / rank.
        dropout: probability, of the inputs of each product, in training.
        targets: which linear layers: all of the transformer, or the last parts of their names with + between them
            (query+value).

    Raises:
        ValueError: a value out of range.

    Source: Hu et al. 2022 (LoRA), arXiv 2106.09685.
    """

    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: str = "all"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")
        if not 0 < self.alpha < 1e6:
            raise ValueError(f"alpha must be a positive number, got {self.alpha}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")


def parse_lora(options: str) -> LoraSettings:
    """Settings from ``rank=8,alpha=16``.

    Raises:
        InputError: an option that there is not, a value out of range, or peft is not installed.
    """
    parse_options(options, f"--lora {options}", "write rank=8,alpha=16")
    settings = build({"lora": LoraSettings}, f"lora:{options}", "setting")
    assert isinstance(settings, LoraSettings)
    if importlib.util.find_spec("peft") is None:
        raise InputError("--lora needs the library peft; pip install 'sentemb[lora]', or leave --lora out")
    return settings


class LoraAdapters:
    """The adapters of a model, whose own weights are frozen while it has them.

    Args:
        model: changed in place. Other modules than the transformer's are trained as before.
        settings: the adapters. Their first matrices are drawn from torch's generator; the second ones are zeros, so
            that the model begins as it was.

    Raises:
        InputError: an encoder that does not begin with a transformer, or no linear layer of a name in ``targets``.
    """

    def __init__(self, model: SentenceTransformer, settings: LoraSettings) -> None:
        from peft import LoraConfig, inject_adapter_in_model

        transformers = [_transformer(tower) for tower in towers_of(model)]
        targets = [_target_names(transformer, settings.targets) for transformer in transformers]
        # (peft's annotation of lora_alpha is int, and it is divided by r)
        options: dict[str, Any] = {"r": settings.rank, "lora_alpha": settings.alpha, "lora_dropout": settings.dropout}
        self.model = model
        self._frozen: list[nn.Parameter] = []
        for transformer, names in zip(transformers, targets, strict=True):
            trained = [weight for weight in transformer.parameters() if weight.requires_grad]
            inject_adapter_in_model(LoraConfig(target_modules=names, **options), transformer)
            self._frozen += [weight for weight in trained if not weight.requires_grad]
        self.layers = sum(map(len, targets))
        self.trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
        self.all = sum(weight.numel() for weight in model.parameters())

    @torch.no_grad()
    def merge(self) -> None:
        """Add the products to the weights and take the adapters out; the model is a plain one then. Once is enough."""
        for parent, name, layer in _adapted(self.model):
            base = layer.get_base_layer()
            base.weight.add_(layer.get_delta_weight(ADAPTER))
            setattr(parent, name, base)
        for tower in towers_of(self.model):
            vars(_transformer(tower)).pop("peft_config", None)  # (which peft has put there)
        for weight in self._frozen:
            weight.requires_grad_(True)
        self._frozen = []


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Let a model be without adapters meanwhile: with layers in their places whose weights have the products added."""
    with ExitStack() as stack:
        for parent, name, layer in _adapted(model):
            stack.callback(setattr, parent, name, layer)
            setattr(parent, name, _merged(layer))
        yield


def copy_without_adapters(model: SentenceTransformer) -> SentenceTransformer:
    """A copy of a model, without adapters."""
    with without_adapters(model):
        return copy.deepcopy(model)


def adapted_layers(model: nn.Module) -> nn.ModuleList | None:
    """The layers with adapters, in the order of the model's modules, each with its weight and matrices; or None."""
    layers = [layer for _, _, layer in _adapted(model)]
    return nn.ModuleList(layers) if layers else None


def _adapted(model: nn.Module) -> list[tuple[nn.Module, str, Any]]:
    """Each layer with an adapter, after the module that it belongs to and its name there."""
    lora = sys.modules.get("peft.tuners.lora")
    if lora is None:  # then no model has any
        return []
    return [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, lora.LoraLayer)
    ]


@torch.no_grad()
def _merged(layer: Any) -> nn.Module:
    made: Any = copy.deepcopy(layer.get_base_layer())
    made.weight.add_(layer.get_delta_weight(ADAPTER))
    return made


def _transformer(tower: SentenceTransformer) -> Any:
    first: Any = tower[0]
    if not isinstance(first, Transformer):
        raise InputError(
            f"--lora is for transformer encoders, and this one begins with {type(first).__name__}; leave it out"
        )
    return first.auto_model


def _target_names(transformer: nn.Module, targets: str) -> list[str]:
    """The full names of the linear layers that ``targets`` names; not of BERT's own pooler, which is not used."""
    linear = [
        name
        for name, module in transformer.named_modules()
        if type(module) is nn.Linear and not name.startswith("pooler.")
    ]
    if targets == "all":
        wanted = linear
    else:
        parts = {name.rpartition(".")[2] for name in linear}
        asked = [part.strip() for part in targets.split("+")]
        if missing := [part for part in asked if part not in parts]:
            raise InputError(
                f"--lora targets={targets} names the layer {missing[0]!r}, and {type(transformer).__name__} has no "
                f"linear layer of that name; valid: all, or of {', '.join(sorted(parts))}"
            )
        wanted = [name for name in linear if name.rpartition(".")[2] in asked]
    if not wanted:
        raise InputError(f"{type(transformer).__name__} has no linear layer for --lora; leave it out")
    return wanted
