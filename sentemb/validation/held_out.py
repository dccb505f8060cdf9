"""Geometry and retrieval of held-out neighbouring sentences of a corpus."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from sentemb.corpus import Corpus
from sentemb.encoders import prompts_of, towers_of
from sentemb.errors import InputError
from sentemb.geometry import (
    alignment,
    effective_rank,
    l2_normalize,
    mean_cosine,
    ranks_of_positives,
    retrieval,
    uniformity,
    uniformity_optimum,
)
from sentemb.pairs import draw, labelled, neighbours
from sentemb.validation.cached_encoder import CachedEncoder

SEED, COUNT = 0, 1000  # of the pairs drawn: fixed, so that runs over one corpus compare
ONE_SIDE, TWO_TOWERS = "one encoder", "f against g"  # what most models have for both sides; what others have

Encode = Callable[[list[str]], np.ndarray]  # texts to [n, d]


@dataclass(frozen=True)
class HeldOutPairs:
    """Neighbouring pairs of the held-out documents: row i of ``second`` follows row i of ``first``."""

    first: list[str]
    second: list[str]
    source: str  # what and how many they are, for outputs
    documents: NDArray[np.int64] | None = field(default=None, compare=False)  # [n] of each pair; None: unknown
    rows: NDArray[np.int64] | None = field(default=None, compare=False)  # [n] of ``first`` in the corpus; None: unknown

    @property
    def num_documents(self) -> int:
        """How many documents the pairs are from; 0: unknown."""
        return 0 if self.documents is None else len(np.unique(self.documents))


def held_out_pairs(
    corpus: Corpus, count: int = COUNT, seed: int = SEED, ranges: NDArray[np.int64] | None = None
) -> HeldOutPairs:
    """``count`` pairs from the corpus' held-out documents, drawn by ``seed``; no sentence with itself.

    ``ranges`` ``[n, 2]`` of sentences, start and stop, take the place of the held-out documents.

    Pairs are neighbours, or the anchors and positives of a labelled corpus.

    Raises:
        InputError: there is no such pair.
    """
    ranges = corpus.split()[1] if ranges is None else ranges
    kind = "labelled" if corpus.labelled else "neighbouring"
    pairs = (labelled if corpus.labelled else neighbours)(ranges)
    drawn = draw(pairs.rows, 2 * count, seed)[:, :2]  # twice, as copies of a sentence fall out below
    texts = corpus.sentences(drawn.flatten())
    first, second = texts[::2], texts[1::2]
    different = np.flatnonzero([a != b for a, b in zip(first, second, strict=True)])
    if not len(different):
        raise InputError(f"the held-out documents of {corpus.name} hold no pair of two different sentences")
    # The rows come in order; a seeded shuffle takes count of them from everywhere.
    chosen = different[np.sort(np.random.default_rng(seed).permutation(len(different))[:count])]
    documents = np.searchsorted(corpus.documents, drawn[chosen, 0], side="right") - 1
    many = len(np.unique(documents))
    of = f"{many:,} held-out {'row' if corpus.labelled else 'document'}{'s' if many > 1 else ''}"
    if not np.isin(ranges[:, 0], corpus.documents).all():  # a source of one document
        of += " (of one, its end)"
    source = f"{len(chosen):,} {kind} pairs from {of} of {corpus.name}"
    return HeldOutPairs([first[i] for i in chosen], [second[i] for i in chosen], source, documents, drawn[chosen, 0])


@dataclass(frozen=True)
class Sides:
    """How the first and the second sentences of pairs are encoded, and compared: as the model was trained to."""

    first: Encode
    second: Encode | None = None  # None: as the first
    score: str = "cosine"  # or dot, the inner product
    names: str = ONE_SIDE


def sides_of(model: SentenceTransformer, encode: CachedEncoder) -> Sides:
    """The one definition by which held-out pairs are scored, while a model trains, at its end and later.

    With two towers f encodes the first sentences and g the second; with a prompt for each side, each has its own. They
    are compared by the model's similarity, which is that of the objective it was trained with.

    Args:
        model: any. encode: its own, which is used where both sides are encoded alike.
    """
    if not isinstance(model, SentenceTransformer):  # anything that can encode
        return Sides(encode)
    score = "dot" if model.similarity_fn_name == "dot" else "cosine"
    towers = towers_of(model)
    if len(towers) > 1:
        f, g = (encode.of(tower) for tower in towers)
        return Sides(f, g, score, TWO_TOWERS)
    prompts = prompts_of(model)
    if prompts.alike:
        return Sides(encode, None, score)
    first, second = (encode.of(model, prompt) for prompt in (prompts.anchor, prompts.positive))
    return Sides(first, second, score, "the anchor's prompt against the positive's")


def pair_geometry(
    encode: Encode, pairs: HeldOutPairs, other: Encode | None = None, score: str = "cosine", names: str = ""
) -> dict[str, Any]:
    """Alignment and uniformity (t = 2, alpha = 2, Wang & Isola 2020) and retrieval of held-out pairs.

    Args:
        encode: texts to ``[n, d]``. pairs: of sentences.
        other: of the second sentences, where they have an encoder of their own (DPR).
        score: by which candidates are ranked: cosine, or dot (embeddings as they are). The geometry uses unit length.
        names: what the two sides are, for outputs.

    Returns:
        ``alignment`` of the pairs; ``uniformity`` in nats over the distinct sentences, with the least possible one for
        the dimension; their ``effective_rank`` and ``mean_cosine``; ``retrieval_mrr`` and ``retrieval_recall_at_1`` of
        the second among all second sentences, by ``retrieval_score`` between ``retrieval_sides``.
    """
    sides = ((encode, pairs.first + ([] if other else pairs.second)), (other, pairs.second if other else []))
    rows: list[torch.Tensor] = []
    position: dict[tuple[bool, str], int] = {}
    for encode_side, texts in sides:
        if encode_side is not None and texts:
            distinct_texts = list(dict.fromkeys(texts))
            position |= {(encode_side is other, text): len(position) + i for i, text in enumerate(distinct_texts)}
            rows.append(torch.from_numpy(np.asarray(encode_side(distinct_texts), dtype=np.float64)))
    plain = torch.cat(rows)
    distinct = l2_normalize(plain)
    of_first = [position[False, text] for text in pairs.first]
    of_second = [position[other is not None, text] for text in pairs.second]
    ranked = plain if score == "dot" else distinct
    mrr, recall = retrieval(ranked[of_first], ranked[of_second])
    return {
        "alignment": alignment(distinct[of_first], distinct[of_second]).item(),
        "uniformity": uniformity(distinct).item() if len(distinct) > 1 else 0.0,
        "uniformity_optimum": uniformity_optimum(distinct.shape[1]),
        "effective_rank": effective_rank(distinct).item(),
        "mean_cosine": mean_cosine(distinct).item() if len(distinct) > 1 else 1.0,
        "retrieval_mrr": mrr,
        "retrieval_recall_at_1": recall,
        "retrieval_score": score,
        "retrieval_sides": names or ONE_SIDE,
        "pairs": len(of_first),
        "sentences": len(distinct),
        **({"documents": pairs.num_documents} if pairs.num_documents else {}),
        "source": pairs.source,
    }


def held_out_geometry(sides: Sides, pairs: HeldOutPairs) -> dict[str, Any]:
    """:func:`pair_geometry` as a model's sides are encoded and compared."""
    return pair_geometry(sides.first, pairs, sides.second, sides.score, sides.names)


def held_out_ranks(sides: Sides, pairs: HeldOutPairs) -> NDArray[np.float64]:
    """The rank ``[n]`` of each pair's second sentence among all second ones, for retrieval in the geometry."""
    x, y = (torch.from_numpy(np.asarray(rows, dtype=np.float64)) for rows in _both_sides(sides, pairs))
    if sides.score != "dot":
        x, y = l2_normalize(x), l2_normalize(y)
    return ranks_of_positives(x, y).numpy().astype(np.float64)


def _both_sides(sides: Sides, pairs: HeldOutPairs) -> tuple[np.ndarray, np.ndarray]:
    return sides.first(pairs.first), (sides.second or sides.first)(pairs.second)


def similarity_histograms(
    encode: Encode, pairs: HeldOutPairs, bins: int = 50, other: Encode | None = None
) -> dict[str, list[float]]:
    """Histograms, as shares, of the cosine of positives, of negatives (all other first-second combinations) and, for
    each first sentence, of its hardest negative, the nearest. ``other``: of the second sentences, if it is another."""
    x = l2_normalize(torch.from_numpy(np.asarray(encode(pairs.first), dtype=np.float64)))
    y = l2_normalize(torch.from_numpy(np.asarray((other or encode)(pairs.second), dtype=np.float64)))
    cosine = (x @ y.T).numpy()
    edges = np.linspace(-1, 1, bins + 1)
    apart = cosine[~np.eye(len(x), dtype=bool)]
    nearest = np.where(np.eye(len(x), dtype=bool), -2, cosine).max(axis=1)[: len(x) if len(x) > 1 else 0]
    shares = {"positives": cosine.diagonal(), "negatives": apart, "hardest_negatives": nearest}
    histograms = {
        name: np.histogram(values.clip(-1, 1), edges)[0] / max(1, values.size) for name, values in shares.items()
    }
    return {"edges": edges.tolist()} | {name: values.tolist() for name, values in histograms.items()}
