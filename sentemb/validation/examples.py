"""Sentences next to numbers: held-out sentences with their nearest neighbours, by each of several encoders."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sentemb.retrieval import top_k
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
        itself = [[number.get(text, -1)] for text in queries]
        ids, scores = top_k(
            side.first(queries), (side.second or side.first)(candidates), len(candidates), side.score, itself
        )
        for row, ranking, similarity in zip(rows, ids, scores, strict=True):
            positive = number[row["positive"]]
            row["neighbours"][name] = [
                [candidates[i], round(float(value), 4), bool(i == positive)]
                for i, value in zip(ranking[:nearest], similarity[:nearest], strict=True)
                if i >= 0
            ]
            row["ranks"][name] = 1 + int((similarity > similarity[ranking == positive]).sum())
    return {"seed": seed, "candidates": len(candidates), "sentences": rows}
