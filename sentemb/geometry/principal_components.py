"""Principal components of embeddings, from their covariance."""

import numpy as np
from numpy.typing import NDArray


def principal_directions(covariance: NDArray[np.float64], dim: int) -> NDArray[np.float64]:
    """The ``dim`` directions of the greatest variance, the greatest first, as columns ``[d, dim]``.

    The largest number of each is positive, so that the same covariance gives the same directions.

    Args:
        covariance: ``[d, d]``, or any multiple of it.
        dim: at most d.
    """
    directions = np.linalg.eigh(covariance)[1][:, ::-1][:, :dim]
    largest = directions[np.abs(directions).argmax(axis=0), np.arange(dim)]
    return directions * np.where(largest < 0, -1.0, 1.0)
