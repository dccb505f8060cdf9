"""Learning classes with a linear classifier: what Wang & Isola's figure 3 compares with contrastive learning."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from sentemb.objectives.base import Extras, Objective
from sentemb.objectives.contrastive import order


class CrossEntropy(Objective):
    """Predict a pair's class from either view by a linear layer on the sphere, which is not a part of the model.

    Args:
        classes: how many there are, >= 2; labels are 0, 1, ... below it.

    Source: the supervised predictive encoder of Wang & Isola 2020, arXiv 2005.10242, section 4.2 and figure 3.
    """

    formula = "mean over 2n views of -log softmax(W u + b)_class, W and b learned"
    negatives_per_anchor = "0"
    interchangeable_views = "yes"
    source = "Wang & Isola 2020, sec. 4.2, fig. 3 (supervised predictive)"
    needs = frozenset({"labels"})

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"classes must be at least 2, got {classes}")
        self.classes = classes
        self.classifier: nn.Linear | None = None

    def prepare(self, dimension: int, sentences: int = 0) -> None:
        """The classifier."""
        if self.classifier is None:
            self.classifier = nn.Linear(dimension, self.classes)

    def loss(self, x: Tensor, y: Tensor, extras: Extras) -> Tensor:
        """Mean cross-entropy of both views; without labels each row is a class of its own, in order."""
        assert self.classifier is not None
        labels = order(x) % self.classes if extras.labels is None else extras.labels
        weight, bias = self.classifier.weight.to(x.dtype), self.classifier.bias.to(x.dtype)
        losses = [cross_entropy(side @ weight.T + bias, labels) for side in (x, y)]
        return (losses[0] + losses[1]) / 2

    def describe_negatives(self, n: int, hard: int = 0, runs: bool = False) -> str:
        """Classes, not sentences."""
        return f"{self.classes} classes"
