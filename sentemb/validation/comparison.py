"""Two encoders on the same items: which one is better, beyond chance.

Each score is the mean of what an encoder made of single items (a pair's reciprocal rank, whether a test row was right)
or a rank correlation over them (STS). Both encoders met the same items, so that the bootstrap can be paired.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from sentemb.geometry import (
    LEVEL,
    RESAMPLES,
    bootstrap_interval,
    resampled_mean_differences,
    resampled_spearman_differences,
)
from sentemb.validation.held_out import HeldOutPairs, Sides, held_out_ranks

MIN_DOCUMENTS = 10  # with fewer of them, single pairs are drawn
MEAN = "mean accuracy"


@dataclass(frozen=True)
class ItemScores:
    """What an encoder made of each item of one test."""

    values: NDArray[np.float64]  # [n] reciprocal ranks, right (1) or wrong (0), or similarities
    gold: NDArray[np.float64] | None = None  # [n] human scores; the test's score is Spearman's correlation with them
    documents: NDArray[np.int64] | None = None  # [n] of each item
    items: str = "test rows"
    scale: float = 1.0  # 100 for scores in percent
    accuracy: bool = False  # whether the score counts for the mean accuracy

    @property
    def by_document(self) -> bool:
        """Whether there are enough documents to draw whole ones."""
        return self.documents is not None and len(np.unique(self.documents)) >= MIN_DOCUMENTS

    @property
    def score(self) -> float:
        """The test's score: a mean, or Spearman's correlation with ``gold``, times ``scale``."""
        return self.scale * (float(np.mean(self.values)) if self.gold is None else spearman(self.values, self.gold))

    @property
    def units(self) -> int:
        """How many documents, or items, are drawn from."""
        return len(np.unique(self.documents)) if self.by_document else len(self.values)  # type: ignore[arg-type]


def held_out_items(sides: Sides, pairs: HeldOutPairs) -> dict[str, ItemScores]:
    """MRR and recall at 1 of held-out pairs, pair by pair, under the names that a run's scores have."""
    ranks = held_out_ranks(sides, pairs)
    return {
        "retrieval_mrr": ItemScores(1 / ranks, documents=pairs.documents, items="pairs"),
        "retrieval_recall_at_1": ItemScores((ranks == 1).astype(float), documents=pairs.documents, items="pairs"),
    }


def compare_encoders(scored: Mapping[str, Mapping[str, ItemScores]], seed: int = 0) -> list[dict[str, Any]]:
    """The difference of every two encoders on every test that both have, with its interval.

    Args:
        scored: by encoder and test: ``scored[encoder][test]``. The first encoder is compared with the second and so on.
        seed: of the draws, with a test's name: its interval is the same whatever else is scored.

    Returns:
        A row a test and two encoders: ``measure``, ``encoder``, ``against``, ``difference`` (of the first from the
        second), ``low`` and ``high`` (of the interval of probability ``level``), ``verdict`` (of the first: "better",
        "worse", or "cannot tell" where the interval holds 0), ``n`` ``items`` in ``units`` that were ``drawn``. Tests
        of fewer than two units are left out. Where two tests are classified there is also their mean accuracy.
    """
    rows = []
    for a, b in combinations(scored, 2):
        accuracies = []
        for name, first in scored[a].items():
            second = scored[b].get(name)
            if second is None or first.units < 2:
                continue
            value, resampled = _differences(first, second, seed + crc32(name.encode()))
            rows.append(_row(name, a, b, value, resampled, first))
            if first.accuracy:
                accuracies.append((value, resampled, first))
        if len(accuracies) > 1:  # (each test was drawn by itself: the draws of the mean are the means of draws)
            values, draws, tests = zip(*accuracies, strict=True)
            joined = ItemScores(np.concatenate([test.values for test in tests]))
            rows.append(_row(MEAN, a, b, float(np.mean(values)), np.mean(draws, axis=0), joined))
    return rows


def _differences(a: ItemScores, b: ItemScores, seed: int) -> tuple[float, NDArray[np.float64]]:
    """The difference of two scores, and ``[RESAMPLES]`` of draws."""
    if a.gold is None:
        groups = a.documents if a.by_document else None
        value, resampled = (
            float(np.mean(a.values) - np.mean(b.values)),
            resampled_mean_differences(a.values, b.values, groups, RESAMPLES, seed),
        )
    else:
        value = spearman(a.values, a.gold) - spearman(b.values, a.gold)
        resampled = resampled_spearman_differences(a.values, b.values, a.gold, RESAMPLES, seed)
    return a.scale * value, a.scale * resampled


def spearman(values: NDArray[np.float64], gold: NDArray[np.float64]) -> float:
    """Rank correlation of two arrays ``[n]``; 0 where one of them is constant."""
    from scipy.stats import spearmanr

    return 0.0 if np.ptp(values) == 0 or np.ptp(gold) == 0 else float(spearmanr(values, gold).statistic)


def _row(
    name: str, encoder: str, against: str, value: float, resampled: NDArray[np.float64], test: ItemScores
) -> dict[str, Any]:
    low, high = bootstrap_interval(resampled, test.units)
    return {
        "measure": name,
        "encoder": encoder,
        "against": against,
        "difference": value,
        "low": low,
        "high": high,
        "level": LEVEL,
        "verdict": "better" if low > 0 else "worse" if high < 0 else "cannot tell",
        "n": len(test.values),
        "items": test.items,
        "units": test.units,
        "drawn": "documents" if test.by_document else test.items,
        "documents": None if test.documents is None else len(np.unique(test.documents)),
        "resamples": RESAMPLES,
    }
