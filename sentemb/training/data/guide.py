"""A guide's embeddings of the training sentences, which show the false negatives of a batch."""

from dataclasses import dataclass

from sentemb.objectives import GuideMargin
from sentemb.training.data.teacher import Teacher


@dataclass(frozen=True)
class Guide:
    """A guide of the training data.

    Args:
        embeddings: of the sentences by their rows, of any dimension (:class:`TeacherArray` for those in memory).
        margin: how near a candidate may come to an anchor, compared with the positive.
    """

    embeddings: Teacher
    margin: GuideMargin = GuideMargin()

    def __str__(self) -> str:
        """For the first log line."""
        parts = [f" - {self.margin.absolute:g}"] if self.margin.absolute else []
        parts += [f" - {self.margin.relative:g} |c|"] if self.margin.relative else []
        return f"less those that the guide finds nearer than c{''.join(parts)}, its cosine of the positive pair"
