"""What a study measures of an encoder: tasks, a split of their own for choosing, geometry, and what figures draw."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

from eval import SEED, Data, Logistic, ScoringSettings, SearchTask, kfold, score, search_items, search_sample
from sentemb.corpus import Corpus
from sentemb.geometry import l2_normalize, tolerance
from sentemb.pairs import evenly_spread
from sentemb.validation import (
    CachedEncoder,
    HeldOutPairs,
    Sides,
    TextTokens,
    held_out_geometry,
    held_out_items,
    pair_geometry,
    sides_of,
    similarity_histograms,
)

Encode = Callable[[Sequence[str]], np.ndarray]
FOLDS, TEST = 5, 0.2  # of the choice among encoders, as in Wang & Isola 2020, table 4; the share that is tested once

QUERIES, PASSAGES = 1000, 5000  # the most that a search has
NEAREST = 10  # negatives of an anchor whose cosines are compared with its positive's (Wang & Liu 2021, figure 8)
DRAWN = 3  # dimensions of an embedding, at most, whose points figures draw
CLASSES, OF_A_CLASS = 10, 200  # documents that the study circle has as classes (documents=10), sentences of each
TEMPERATURES = np.geomspace(0.01, 3, 25)  # of the critics, of which the tightest bound on mutual information is taken


@dataclass(frozen=True)
class ClassSentences:
    """Sentences of some training documents, and which document (0, 1, ...) each is of."""

    texts: list[str]
    classes: np.ndarray


def class_sentences(corpus: Corpus) -> ClassSentences | None:
    """Sentences of the classes that ``neighbours:documents=10,classes=true`` trains on; None where there are not two.

    They are evenly spread over each document. An encoder that learns these classes was trained on them.
    """
    ranges = corpus.split()[0]
    if corpus.labelled or len(ranges) < 2:
        return None
    rows = [
        np.unique(np.linspace(start, stop - 1, min(OF_A_CLASS, stop - start)).round().astype(np.int64))
        for start, stop in evenly_spread(ranges, CLASSES)
    ]
    numbers = np.repeat(np.arange(len(rows)), [len(each) for each in rows])
    return ClassSentences(corpus.sentences(np.concatenate(rows)), numbers)


def measure_encoder(
    model: SentenceTransformer,
    tasks: Sequence[Data],
    pairs: HeldOutPairs,
    folds: int = 10,
    tokens: TextTokens | None = None,
    search: SearchTask | None = None,
    head: nn.Module | None = None,
    classes: ClassSentences | None = None,
) -> tuple[dict[str, Any], dict[str, np.ndarray], dict[str, str]]:
    """All numbers of a model, and arrays for figures and paired tests.

    Args:
        model: any. tasks: probed ones and those of similarity, as read. pairs: held-out neighbours.
        folds: of nested cross-validation.
        tokens: of these texts, where another encoder has had them tokenized.
        search: what is searched; a fixed sample of it.
        head: that the model was trained with, and which is not part of it.
        classes: of training documents, for embeddings of at most three dimensions.

    Returns:
        Numbers: geometry of the held-out pairs (:func:`sentemb.validation.pair_geometry`), ``information``
        (:func:`information_bound`), ``nearest_gap`` (:func:`nearest_negatives`), and for each task T ``T_acc``
        (SentEval's protocol, %), ``T_cv`` (best mean of 5-fold cross-validation on a training split, %, to choose by),
        ``T_test`` (that one's accuracy on the rest, %), ``T_tolerance`` (Wang & Liu 2021, eq. 11). Of a task of
        similarity ``T_spearman`` (of its test part, x 100). With a head ``T_after_head``, accuracy of what the
        objective saw, and ``mrr_after_head``. Of two or three dimensions ``document_acc``,
        where :func:`document_accuracy` can be measured, and ``class_acc`` (the same of the classes).
        With search also ``search_ndcg_at_10`` and the like, 0 to 1.
        Arrays: ``edges``, ``positives``, ``negatives``, ``hardest_negatives``: histograms of cosines;
        ``singular_values``; where d <= 3 ``features`` ``[n, d]`` and, of the classes, ``class_features`` and
        ``classes``; ``reciprocal_ranks`` of the pairs and their ``documents``; ``nearest_negatives``; ``T_right`` and
        ``T_test_right``: which rows were predicted right.
        How each task was scored, in words.
    """
    encode = CachedEncoder(model, tokens=tokens)
    settings = ScoringSettings(folds=folds, dev=False, geometry_part="none")
    encode.prepare([text for task in tasks for text in settings.texts(task)] + pairs.first + pairs.second)
    row: dict[str, Any] = {"dimension": model.get_embedding_dimension()}
    arrays: dict[str, np.ndarray] = {}
    protocols: dict[str, str] = {}
    sides = sides_of(model, encode)
    geometry = held_out_geometry(sides, pairs)
    row |= {key: value for key, value in geometry.items() if isinstance(value, float)}
    if search is not None:
        items = search_items(sides, search_sample(search, QUERIES, PASSAGES))
        row |= {f"search_{metric.lower().replace('@', '_at_')}": each.values.mean() for metric, each in items.items()}
    more, more_arrays = _of_pairs(sides, pairs)
    row, arrays = row | more, arrays | more_arrays
    row["potential"] = float(np.exp(geometry["uniformity"]))
    arrays |= {
        key: np.array(value) for key, value in similarity_histograms(sides.first, pairs, other=sides.second).items()
    }
    rows = l2_normalize(torch.from_numpy(encode(list(dict.fromkeys(pairs.first + pairs.second)))))
    arrays["singular_values"] = torch.linalg.svdvals(rows.double()).numpy()
    if rows.shape[1] <= DRAWN:
        measured, drawn = _of_points(encode, pairs, classes)
        row, arrays = row | measured, arrays | drawn | {"features": rows.numpy()}
    after = None if head is None or sides.second is not None else partial(_through, encode, head)
    if after is not None:
        row["mrr_after_head"] = pair_geometry(after, pairs)["retrieval_mrr"]
    for data in tasks:
        measured, task_arrays, protocols[data.task.name] = _of_task(data, encode, after, settings)
        row, arrays = row | measured, arrays | task_arrays
    return row, arrays, protocols


def _of_task(
    data: Data, encode: Encode, after: Encode | None, settings: ScoringSettings
) -> tuple[dict[str, float], dict[str, np.ndarray], str]:
    """Numbers and arrays of a task, and how it was scored; ``after``: a head's embeddings."""
    name, scored = data.task.name, score(data, encode, settings)
    if not data.task.probed:
        return {f"{name}_spearman": scored.row["spearman"]}, {}, scored.row["protocol"]
    row = {f"{name}_acc": scored.row["acc"]}
    if after is not None:
        row[f"{name}_after_head"] = score(data, after, settings).row["acc"]
    assert scored.correct is not None
    x = np.concatenate([encode(part.first) for part in data.parts.values()])
    y = np.concatenate([part.gold for part in data.parts.values()])
    train, test = train_test_split(np.arange(len(y)), test_size=TEST, random_state=SEED, stratify=y)
    chosen = kfold(Logistic(), x, y, np.sort(train), np.sort(test), FOLDS)
    row[f"{name}_cv"], row[f"{name}_test"] = chosen.devacc, chosen.acc
    row[f"{name}_tolerance"] = tolerance(l2_normalize(torch.from_numpy(x)), torch.from_numpy(y)).item()
    arrays = {f"{name}_right": scored.correct, f"{name}_test_right": chosen.predicted == y[np.sort(test)]}
    return row, arrays, scored.row["protocol"]


def document_accuracy(encode: Encode, pairs: HeldOutPairs) -> float | None:
    """How often a linear classifier of the embeddings knows which held-out document a sentence is of, in %.

    Trained on four fifths of the pairs and tested on the rest, as an encoder is that is chosen and tested once. None
    where the pairs are of one document, or a document has too few train rows for cross-validation.
    """
    if pairs.documents is None or pairs.num_documents < 2 or len(pairs.first) < FOLDS:
        return None
    of = np.unique(pairs.documents, return_inverse=True)[1]
    x, y = np.concatenate([encode(pairs.first), encode(pairs.second)]), np.tile(of, 2)
    return _linear_accuracy(x, y, len(pairs.first))


def _linear_accuracy(x: np.ndarray, y: np.ndarray, n: int) -> float | None:
    """Of the classes ``y`` from ``x``, in %, on a fifth of ``n`` items; row i belongs to item i modulo ``n``.

    None where a class has too few train rows for cross-validation.
    """
    train, test = train_test_split(np.arange(n), test_size=TEST, random_state=SEED)
    of_train, of_test = (np.flatnonzero(np.isin(np.arange(len(y)) % n, items)) for items in (train, test))
    if np.bincount(y[of_train], minlength=y.max() + 1).min() < FOLDS:
        return None
    return float(kfold(Logistic(), x, y, of_train, of_test, FOLDS).acc)


def _of_points(
    encode: Encode, pairs: HeldOutPairs, classes: ClassSentences | None
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Linear accuracies of embeddings that are drawn, and the points of the classes."""
    accuracies, arrays = {"document_acc": document_accuracy(encode, pairs)}, {}
    if classes is not None:
        x = encode(classes.texts)
        accuracies["class_acc"] = _linear_accuracy(x, classes.classes, len(x))
        arrays = {"class_features": l2_normalize(torch.from_numpy(x)).numpy(), "classes": classes.classes}
    return {name: value for name, value in accuracies.items() if value is not None}, arrays


def _through(encode: Encode, head: nn.Module, texts: Sequence[str]) -> np.ndarray:
    with torch.inference_mode():
        return head(torch.from_numpy(encode(texts)).float()).numpy()


def _of_pairs(sides: Sides, pairs: HeldOutPairs) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """What is measured of held-out pairs in addition to :func:`sentemb.validation.pair_geometry`."""
    items = held_out_items(sides, pairs)["retrieval_mrr"]
    x, y = (
        l2_normalize(torch.from_numpy(np.asarray(encode(texts), dtype=np.float64)))
        for encode, texts in ((sides.first, pairs.first), (sides.second or sides.first, pairs.second))
    )
    cosine = x @ y.T
    arrays = {"reciprocal_ranks": items.values, "nearest_negatives": nearest_negatives(cosine)}
    if pairs.documents is not None:
        arrays["documents"] = pairs.documents
    gap = cosine.diagonal().mean().item() - float(arrays["nearest_negatives"].mean()) if len(x) > 1 else 0.0
    return {"information": information_bound(cosine), "nearest_gap": gap}, arrays


def nearest_negatives(cosine: Tensor) -> np.ndarray:
    """Mean cosine of the anchors' nearest negative, of their second nearest, and so on up to ten.

    Args:
        cosine: ``[n, n]`` of first and second sides, positives on the diagonal.

    Source: Wang & Liu 2021, figure 8.
    """
    others = cosine.masked_fill(torch.eye(len(cosine), dtype=torch.bool), -torch.inf)
    return others.topk(min(NEAREST, len(cosine) - 1), dim=1).values.mean(dim=0).numpy()


def information_bound(cosine: Tensor) -> float:
    """A lower bound on the mutual information of a pair's sides in nats: log n less the contrastive loss.

    The critic is the cosine over a temperature, the one of 25 with the tightest bound. It is at least 0, that of an
    infinite temperature, and at most log n.

    Args:
        cosine: ``[n, n]`` of first and second sides, positives on the diagonal.

    Source: van den Oord et al. 2018, arXiv 1807.03748, section 2.3.
    """
    bounds = [
        math.log(len(cosine)) + (scores.diagonal() - scores.logsumexp(dim=1)).mean().item()
        for scores in (cosine / temperature for temperature in TEMPERATURES)
    ]
    return max(0.0, *bounds)
