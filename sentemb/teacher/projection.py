"""A teacher's embeddings as targets of training: standardised, or turned onto fewer dimensions (PCA)."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sentemb.errors import InputError
from sentemb.geometry import principal_directions
from sentemb.storage import build_once, key_of
from sentemb.teacher.embeddings import TeacherEmbeddings
from sentemb.teacher.spec import TeacherSpec

BLOCK = 8192  # sentences whose products are summed together
SMALLEST = 1e-6  # standard deviation of a dimension that is divided by; one that is constant stays 0
FILE = "projection.npz"


class ProjectedTeacher:
    """A teacher's embeddings with another scale or fewer dimensions: (t - mean) matrix.

    Args:
        embeddings: those of the teacher, of D dimensions.
        mean: float32 ``[D]``, over the distinct sentences.
        matrix: float32 ``[D, dimension]``, or ``[D]``: its diagonal, where dimensions are only scaled.
        fingerprint: of the teacher, of what was asked of it, and of this projection.
    """

    def __init__(
        self, embeddings: TeacherEmbeddings, mean: NDArray[np.float32], matrix: NDArray[np.float32], fingerprint: str
    ) -> None:
        self.embeddings, self.mean, self.matrix, self.fingerprint = embeddings, mean, matrix, fingerprint

    def __len__(self) -> int:
        """Distinct sentences."""
        return len(self.embeddings)

    @property
    def dimension(self) -> int:
        """Numbers of a target."""
        return int(self.matrix.shape[-1])

    def has(self, numbers: NDArray[Any]) -> NDArray[np.bool_]:
        """As :meth:`TeacherEmbeddings.has`."""
        return self.embeddings.has(numbers)

    def rows(self, numbers: NDArray[Any]) -> NDArray[np.float32]:
        """Targets float32 ``[n, dimension]`` of the sentences of these rows of the corpus, ``[n]``.

        Raises:
            ValueError: a sentence has none, as it is none of those that were chosen for the teacher.
        """
        return self.transform(self.embeddings.rows(numbers))

    def transform(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Targets float32 ``[n, dimension]`` of any embeddings of the teacher, ``[n, D]``."""
        centred = np.asarray(embeddings, dtype=np.float32) - self.mean
        targets = centred * self.matrix if self.matrix.ndim == 1 else centred @ self.matrix
        return targets.astype(np.float32, copy=False)


def projected(embeddings: TeacherEmbeddings, spec: TeacherSpec) -> TeacherEmbeddings | ProjectedTeacher:
    """The targets that a spec asks for: the embeddings themselves, or their projection, computed once and cached.

    With ``scale=standard`` each dimension has mean 0 and variance 1 over the distinct sentences. With ``dim`` the
    targets are the first principal components, the one of the greatest variance first.

    Raises:
        InputError: there are fewer dimensions than ``dim``.
    """
    if not spec.projects:
        return embeddings
    if spec.dim > embeddings.dimension:
        raise InputError(
            f"teacher {spec.name}: dim={spec.dim} is more than the {embeddings.dimension} dimensions of its "
            "embeddings; give fewer, or leave dim out"
        )
    fingerprint = key_of(embeddings.fingerprint, spec.scale, str(spec.dim))
    folder = embeddings.folder.parent / f"{embeddings.folder.name}-{fingerprint}"
    what = f"the projection of the embeddings of teacher {spec.name}"
    with build_once(folder, lambda made: _opened(made) is not None, what) as work:
        if work is not None:
            mean, matrix = projection(embeddings, spec.scale, spec.dim)
            with (work / FILE).open("wb") as file:
                np.savez(file, mean=mean, matrix=matrix)
    mean, matrix = _opened(folder) or projection(embeddings, spec.scale, spec.dim)
    return ProjectedTeacher(embeddings, mean, matrix, fingerprint)


def _opened(folder: Path) -> tuple[NDArray[np.float32], NDArray[np.float32]] | None:
    try:
        with np.load(folder / FILE) as arrays:
            return arrays["mean"], arrays["matrix"]
    except Exception:  # not there, or damaged (NumPy and zipfile raise many kinds)
        return None


def projection(embeddings: TeacherEmbeddings, scale: str, dim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean ``[D]`` and matrix of a projection, from sums over the distinct sentences.

    The matrix is ``[D, dim]``; without ``dim`` its diagonal, ``[D]``. The largest number of each component is positive.
    """
    count, width = len(embeddings), embeddings.dimension
    total = np.zeros(width)
    products = np.zeros((width, width) if dim else width)
    shift = embeddings.distinct(slice(0, BLOCK)).astype(np.float64).mean(axis=0)  # so that the sums stay small
    for first in range(0, count, BLOCK):
        rows = embeddings.distinct(slice(first, first + BLOCK)).astype(np.float64) - shift
        total += rows.sum(axis=0)
        products += rows.T @ rows if dim else np.square(rows).sum(axis=0)
    mean = total / count
    covariance = products / count - (np.outer(mean, mean) if dim else np.square(mean))
    variance = np.maximum(np.diagonal(covariance) if dim else covariance, 0)
    factors = np.where(variance > SMALLEST**2, 1 / np.sqrt(np.maximum(variance, SMALLEST**2)), 0)
    if scale == "none":
        factors = np.ones(width)
    matrix = factors
    if dim:
        matrix = factors[:, None] * principal_directions(covariance * np.outer(factors, factors), dim)
    return (shift + mean).astype(np.float32), matrix.astype(np.float32)
