"""Held-out pairs on a sphere that can be drawn: the same sentences by each of several encoders, in three dimensions."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentemb.validation.held_out import HeldOutPairs, Sides

COUNT, SEED = 200, 0  # pairs, and what draws them
LONGEST = 240  # characters of a sentence that are shown

Points = NDArray[np.float64]


def sphere_points(
    sides: Mapping[str, Sides], pairs: HeldOutPairs, count: int = COUNT, seed: int = SEED
) -> dict[str, Any]:
    """Place ``count`` held-out pairs, drawn by ``seed`` and by no result, on the unit sphere of three dimensions.

    The embeddings, at unit length, are projected onto their three principal directions, and the projections are
    normalised to unit length. They are not centred, so that sentences with nearly the same embedding stay one spot.
    Principal directions have no natural signs or order between encoders; the second and later encoders are therefore
    turned onto the first (orthogonal Procrustes, Schoenemann 1966), and a point moves no further than it must.

    Args:
        sides: encoders by name. pairs: held-out.
        count, seed: how many pairs, and of the draw.

    Returns:
        ``{"seed", "pairs": [[first, second], ...], "encoders": {name: {"points": [[first, second], ...], "cosines",
        "share"}}}``: a point is ``[x, y, z]``; ``cosines`` are those of each pair in all dimensions; ``share`` is how
        much of the embeddings' squared length the three directions hold.
    """
    chosen = np.sort(np.random.default_rng(seed).permutation(len(pairs.first))[:count])
    first, second = ([texts[i] for i in chosen] for texts in (pairs.first, pairs.second))
    encoders: dict[str, dict[str, Any]] = {}
    reference: Points | None = None
    for name, side in sides.items():
        both = [side.first(first), (side.second or side.first)(second)]
        x = _unit(np.concatenate([np.asarray(rows, dtype=np.float64) for rows in both]))  # [2n, d]
        points, share = _projected(x)
        if reference is None:
            reference = points
        else:
            u, _, v = np.linalg.svd(points.T @ reference)
            points = points @ (u @ v)
        halves = np.stack(np.split(points, 2), axis=1)  # [n, 2, 3]
        cosines = (x[: len(chosen)] * x[len(chosen) :]).sum(axis=1)
        encoders[name] = {"points": halves.round(3).tolist(), "cosines": cosines.round(3).tolist(), "share": share}
    texts = [[_short(a), _short(b)] for a, b in zip(first, second, strict=True)]
    return {"seed": seed, "pairs": texts, "encoders": encoders}


def _projected(x: Points) -> tuple[Points, float]:
    """Of unit vectors ``[n, d]`` those on the sphere ``[n, 3]``, the first direction as z; the share of length left."""
    _, singular_values, directions = np.linalg.svd(x, full_matrices=False)
    points = np.zeros((len(x), 3))
    points[:, : min(3, len(directions))] = x @ directions[:3].T
    points *= np.where(points.sum(axis=0) < 0, -1, 1)
    energy = singular_values**2
    return _unit(points[:, [1, 2, 0]]), round(float(energy[:3].sum() / max(energy.sum(), 1e-12)), 4)


def _unit(rows: Points) -> Points:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
