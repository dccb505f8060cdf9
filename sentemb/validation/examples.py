"""Sentences beside numbers: held-out sentences with their nearest neighbours, by each of several encoders."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentemb.validation.held_out import HeldOutPairs, Sides

COUNT, NEAREST, SEED = 10, 3, 0  # sentences, neighbours of each, and what chooses the sentences


def nearest_examples(
    sides: Mapping[str, Sides], pairs: HeldOutPairs, count: int = COUNT, nearest: int = NEAREST, seed: int = SEED
) -> dict[str, Any]:
    """``count`` held-out sentences, drawn by ``seed`` and by no result, with the ``nearest`` candidates of each.

    Candidates are the distinct second sentences of all pairs, without the sentence itself.

    Args:
        sides: encoders by name. pairs: held-out.
        count, nearest, seed: how many sentences and neighbours, and of the draw.

    Returns:
        ``{"seed", "candidates", "sentences": [{"sentence", "positive", "neighbours": {encoder: [row]}, "ranks":
        {encoder: rank of the positive}}]}`` where a row is ``[text, similarity, whether it is the positive]``.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pairs.first))[:count])
    queries = [pairs.first[i] for i in chosen]
    candidates = list(dict.fromkeys(pairs.second))
    number = {text: i for i, text in enumerate(candidates)}
    rows: list[dict[str, Any]] = [
        {"sentence": text, "positive": pairs.second[i], "neighbours": {}, "ranks": {}}
        for i, text in zip(chosen, queries, strict=True)
    ]
    for name, side in sides.items():
        scores = similarities(side.first(queries), (side.second or side.first)(candidates), side.score)
        for row, similarity in zip(rows, scores, strict=True):
            if row["sentence"] in number:
                similarity[number[row["sentence"]]] = -np.inf
            positive = number[row["positive"]]
            best = np.argsort(-similarity, kind="stable")[:nearest]
            row["neighbours"][name] = [
                [candidates[i], round(float(similarity[i]), 4), bool(i == positive)]
                for i in best
                if np.isfinite(similarity[i])
            ]
            row["ranks"][name] = 1 + int((similarity > similarity[positive]).sum())
    return {"seed": seed, "candidates": len(candidates), "sentences": rows}


def similarities(x: NDArray[Any], y: NDArray[Any], score: str) -> NDArray[np.float64]:
    """Cosines ``[n, m]`` of the rows of ``x`` ``[n, d]`` and ``y`` ``[m, d]``; inner products if ``score`` is dot."""
    x, y = (np.array(rows, dtype=np.float64) for rows in (x, y))
    if score != "dot":
        for side in (x, y):
            side /= np.maximum(np.linalg.norm(side, axis=1, keepdims=True), 1e-12)
    return np.asarray(x @ y.T)
