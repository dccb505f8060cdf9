"""Heads: layers between the embedding and the objective, in training only. No checkpoint has one."""

from torch import nn


def mlp(dimension: int) -> nn.Module:
    """A dense layer of the embedding's own size and tanh: SimCSE's, trained and left out afterwards (mlp_only_train).

    Source: Gao et al. 2021, arXiv 2104.08821, section 6.3 and table 6.
    """
    return nn.Sequential(nn.Linear(dimension, dimension), nn.Tanh())


def projection(dimension: int, hidden: int = 0, out: int = 128, layers: int = 2) -> nn.Module:
    """SimCLR's projection head: ``layers`` dense layers with ReLU between them.

    Args:
        dimension: of the embedding.
        hidden: units of the layers between; 0 takes the embedding's size.
        out: dimensions that the objective sees.
        layers: dense layers in all.

    Source: Chen et al. 2020, arXiv 2002.05709, section 4.2.

    Raises:
        ValueError: a size below 1, or hidden units of a head of one layer.
    """
    if hidden < 0 or out < 1 or layers < 1:
        raise ValueError(f"out and layers must be at least 1, hidden at least 0, got {out}, {layers} and {hidden}")
    if hidden and layers == 1:
        raise ValueError(
            f"hidden={hidden} applies to the layers between, and a head of one layer has none; leave it out"
        )
    sizes = [dimension, *[hidden or dimension] * (layers - 1), out]
    modules: list[nn.Module] = []
    for before, after in zip(sizes, sizes[1:], strict=False):
        modules += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def none(dimension: int) -> nn.Module | None:
    """No head."""
    return None


HEADS = {"none": none, "mlp": mlp, "projection": projection}
