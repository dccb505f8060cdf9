"""What a study measures of an encoder: tasks, a split of their own for choosing, geometry, and what figures draw."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sklearn.model_selection import train_test_split

from eval import SEED, Data, Logistic, ScoringSettings, SearchTask, kfold, score, search_items, search_sample
from sentemb.geometry import l2_normalize, tolerance
from sentemb.validation import (
    CachedEncoder,
    HeldOutPairs,
    TextTokens,
    held_out_geometry,
    sides_of,
    similarity_histograms,
)

Encode = Callable[[Sequence[str]], np.ndarray]
FOLDS, TEST = 5, 0.2  # of the choice among encoders, as in Wang & Isola 2020, table 4; the share that is tested once

QUERIES, PASSAGES = 1000, 5000  # the most that a search has


def measure_encoder(
    model: SentenceTransformer,
    tasks: Sequence[Data],
    pairs: HeldOutPairs,
    folds: int = 10,
    tokens: TextTokens | None = None,
    search: SearchTask | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    """All numbers of a model, and arrays for figures and paired tests.

    Args:
        model: any. tasks: probed ones, as read. pairs: held-out neighbours. folds: of nested cross-validation.
        tokens: of these texts, where another encoder has had them tokenized.
        search: what is searched; a fixed sample of it.

    Returns:
        Numbers: geometry of the held-out pairs (:func:`sentemb.validation.pair_geometry`), and for each task T
        ``T_acc`` (SentEval's protocol, %), ``T_cv`` (best mean of 5-fold cross-validation on a training split, %, to
        choose by), ``T_test`` (that one's accuracy on the rest, %), ``T_tolerance`` (Wang & Liu 2021, eq. 11).
        With search also ``search_ndcg_at_10`` and the like, 0 to 1.
        Arrays: ``edges``, ``positives``, ``negatives``, ``hardest_negatives``: histograms of cosines;
        ``singular_values``; ``features`` ``[n, d]`` where d <= 3; ``T_right`` and ``T_test_right``: which rows were
        predicted right.
        How each task was scored, in words.
    """
    encode = CachedEncoder(model, tokens=tokens)
    encode.prepare([text for task in tasks for text in task.texts] + pairs.first + pairs.second)
    row: dict[str, Any] = {"dimension": model.get_embedding_dimension()}
    arrays: dict[str, np.ndarray] = {}
    protocols: dict[str, str] = {}
    sides = sides_of(model, encode)
    geometry = held_out_geometry(sides, pairs)
    row |= {key: value for key, value in geometry.items() if isinstance(value, float)}
    if search is not None:
        items = search_items(sides, search_sample(search, QUERIES, PASSAGES))
        row |= {f"search_{metric.lower().replace('@', '_at_')}": each.values.mean() for metric, each in items.items()}
    row["potential"] = float(np.exp(geometry["uniformity"]))
    arrays |= {
        key: np.array(value) for key, value in similarity_histograms(sides.first, pairs, other=sides.second).items()
    }
    rows = l2_normalize(torch.from_numpy(encode(list(dict.fromkeys(pairs.first + pairs.second)))))
    arrays["singular_values"] = torch.linalg.svdvals(rows.double()).numpy()
    if rows.shape[1] <= 3:
        arrays["features"] = rows.numpy()
    settings = ScoringSettings(folds=folds)
    for data in tasks:
        name = data.task.name
        scored = score(data, encode, settings)
        row[f"{name}_acc"], protocols[name] = scored.row["acc"], scored.row["protocol"]
        assert scored.correct is not None
        arrays[f"{name}_right"] = scored.correct
        x = np.concatenate([encode(part.first) for part in data.parts.values()])
        y = np.concatenate([part.gold for part in data.parts.values()])
        train, test = train_test_split(np.arange(len(y)), test_size=TEST, random_state=SEED, stratify=y)
        chosen = kfold(Logistic(), x, y, np.sort(train), np.sort(test), FOLDS)
        row[f"{name}_cv"], row[f"{name}_test"] = chosen.devacc, chosen.acc
        arrays[f"{name}_test_right"] = chosen.predicted == y[np.sort(test)]
        row[f"{name}_tolerance"] = tolerance(l2_normalize(torch.from_numpy(x)), torch.from_numpy(y)).item()
    return row, arrays, protocols
