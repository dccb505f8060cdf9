"""The score by which a training run chooses its best model."""

from collections.abc import Callable
from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from sentemb.errors import InputError
from sentemb.validation.cached_encoder import CachedEncoder
from sentemb.validation.held_out import HeldOutPairs, held_out_geometry, sides_of

Scores = Callable[[SentenceTransformer], dict[str, float]]
EncodedScores = Callable[[CachedEncoder], dict[str, float]]
RETRIEVAL = "retrieval_mrr"  # the dev score where no other is given


@dataclass(frozen=True)
class DevScore:
    """A dev score: the best model is the one whose ``name`` is the highest."""

    name: str
    scores: Scores  # of a model, by name; ``name`` is one of them
    setting: str = ""  # of --dev, where it has one
    encoded_scores: EncodedScores | None = None  # the same scores, by an encoder that remembers what it has encoded

    @property
    def spec(self) -> str:
        """What config.json says of it, to be compared with that of a resumed run."""
        return self.setting or f"<{self.name}>"

    def measure(self, encode: CachedEncoder) -> dict[str, float]:
        """The scores of the encoder's model; embeddings that the encoder has are reused where the scores take them."""
        return self.scores(encode.model) if self.encoded_scores is None else self.encoded_scores(encode)

    @classmethod
    def of(cls, function: Callable[[SentenceTransformer], float]) -> "DevScore":
        """The dev score that a function of a model returns; it is called after the function.

        Raises:
            InputError: it is not a function.
        """
        if not callable(function):
            raise InputError(f"dev is a {type(function).__name__}; give a function of the model, or a DevScore")
        name = getattr(function, "__name__", type(function).__name__).strip("<>")
        name = "dev_score" if name == "lambda" else name
        return cls(name, lambda model: {name: float(function(model))})


def held_out_scores(
    model: SentenceTransformer, pairs: HeldOutPairs, encode: CachedEncoder | None = None
) -> dict[str, float]:
    """What the log says of held-out pairs while a model trains: alignment, uniformity and retrieval.

    ``encode``: of the model, with what it has encoded before.
    """
    geometry = held_out_geometry(sides_of(model, encode or CachedEncoder(model)), pairs)
    return {
        "heldout_alignment": geometry["alignment"],
        "heldout_uniformity": geometry["uniformity"],
        RETRIEVAL: geometry["retrieval_mrr"],
        "retrieval_recall_at_1": geometry["retrieval_recall_at_1"],
    }
