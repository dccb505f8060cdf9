"""Hard negatives by a model: whose embeddings are nearest to the anchor's, below the score of the positive."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from sentemb.encoders import SIDES, Prompts, Towers, copy_without_adapters, read_json, towers_of
from sentemb.mining.mine import MiningTask
from sentemb.mining.spec import MinedSpec
from sentemb.pairs import Numbers
from sentemb.retrieval import pair_scores, top_k
from sentemb.teacher import EmbeddingSource, TeacherEmbeddings, TeacherFolder, TeacherModel, TeacherSpec, embed_corpus

ROLE = "miner"  # what messages call the model


@dataclass(frozen=True)
class Miner:
    """The model that finds hard negatives: how it embeds both sides, and how it compares them."""

    anchors: EmbeddingSource
    candidates: EmbeddingSource  # the same object where both sides are embedded alike
    score: str  # cosine or dot

    @property
    def fingerprint(self) -> str:
        """Hex digest of all that decides its scores but the text."""
        parts = (self.anchors.fingerprint_of_output, self.candidates.fingerprint_of_output, self.score)
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()


def finished_miner(name: str) -> Miner:
    """A finished model: its two towers for the two sides, or its prompts for them, where it has such.

    Raises:
        InputError: there is no such model; its folder is damaged or unsafe.
    """
    folder = TeacherFolder(TeacherSpec(name), ROLE)
    towers = [path for path in (folder.path, folder.path / "0_Towers") if (path / Towers.config_file_name).is_file()]
    if towers:
        sides = [TeacherFolder(TeacherSpec(str(towers[0] / side)), ROLE) for side in "fg"]
        return Miner(sides[0], sides[1], _score_of(sides[0].path))
    prompts = _config_of(folder.path).get("prompts")
    if isinstance(prompts, dict) and SIDES.keys() <= prompts.keys() and len({prompts[side] for side in SIDES}) > 1:
        first, second = (TeacherFolder(TeacherSpec(name, prompt=prompts[side] or ""), ROLE) for side in SIDES)
        return Miner(first, second, _score_of(folder.path))
    return Miner(folder, folder, _score_of(folder.path))


def _score_of(folder: Path) -> str:
    return "dot" if _config_of(folder).get("similarity_fn_name") == "dot" else "cosine"


def _config_of(folder: Path) -> dict[str, object]:
    path = folder / "config_sentence_transformers.json"
    content = read_json(path) if path.is_file() else {}
    return content if isinstance(content, dict) else {}


class ModelInTraining:
    """A copy of the current model, which embeds one side.

    Args:
        model: of one tower. prompt: what goes before each text.
    """

    role = ROLE

    def __init__(self, model: SentenceTransformer, prompt: str) -> None:
        self._model, self._spec = copy_without_adapters(model), TeacherSpec("self", prompt=prompt)
        digest = hashlib.blake2b(prompt.encode(), digest_size=16)
        for name, value in self._model.state_dict().items():
            digest.update(name.encode() + value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        self.fingerprint_of_output = digest.hexdigest()

    def read(self, device: str | torch.device = "cpu", bf16: bool = False) -> TeacherModel:
        """The copy on a device."""
        return TeacherModel(self._spec, self._model.to(device), bf16, ROLE)


def miner_in_training(model: SentenceTransformer, prompts: Prompts) -> Miner:
    """A miner from the current state of the model in training."""
    towers = towers_of(model)
    score = "dot" if towers[0].similarity_fn_name == "dot" else "cosine"
    first = ModelInTraining(towers[0], prompts.anchor)
    alike = len(towers) == 1 and prompts.alike
    return Miner(first, first if alike else ModelInTraining(towers[-1], prompts.positive), score)


@dataclass(frozen=True)
class EmbeddingSearch:
    """Finds the nearest of a pool by embeddings of anchors and candidates."""

    anchors: TeacherEmbeddings
    candidates: TeacherEmbeddings
    pool: NDArray[np.float16]  # [p, d]
    score: str
    spec: MinedSpec

    def places(self, rows: Numbers, left_out: Sequence[Numbers]) -> Numbers:
        """Places in the pool ``[n, per_anchor]``, the nearest first; -1 where there are fewer.

        Args:
            rows: int64 ``[n, 2]``, anchors and positives.
            left_out: for each the places that do not count.

        In the ranking of all others a negative has a rank of ``skip`` or more, from 0 on, and a score of at most the
        ceiling. Where rank ``skip`` is above the ceiling all of lower ranks are, so that they need no check.
        """
        queries, margin = self.anchors.rows(rows[:, 0]), self.spec.relative_margin
        count, skip = self.spec.per_anchor, self.spec.skip
        if margin is None:
            return top_k(queries, self.pool, skip + count, self.score, left_out)[0][:, skip:]
        positive = pair_scores(queries, self.candidates.rows(rows[:, 1]), self.score)
        ceiling = ceilings(positive, margin)
        if skip == 0:
            return top_k(queries, self.pool, count, self.score, left_out, ceiling=ceiling)[0]
        ids, scores = top_k(queries, self.pool, skip + count, self.score, left_out)
        ids = ids[:, skip:].copy()
        above = np.flatnonzero(scores[:, skip] > ceiling)
        if len(above):
            lists = [left_out[place] for place in above.tolist()]
            ids[above] = top_k(queries[above], self.pool, count, self.score, lists, ceiling=ceiling[above])[0]
        return ids


def ceilings(positive: NDArray[np.float32], margin: float) -> NDArray[np.float32]:
    """The highest scores of hard negatives of anchors whose positives have these scores ``[n]``."""
    wide = positive.astype(np.float64)
    return (wide - margin * np.abs(wide)).astype(np.float32)


def search_by_model(
    miner: Miner, task: MiningTask, max_length: int, device: str | torch.device, bf16: bool
) -> EmbeddingSearch:
    """Embeds what is compared, from the cache or into it (:func:`sentemb.teacher.embed_corpus`).

    Args:
        miner: the model.
        task: the pairs and the pool.
        max_length: tokens that are read of a sentence, at most.
        device: where it is computed. bf16: matrix products in bfloat16.

    Raises:
        InputError: as ``embed_corpus``.
    """
    anchors, positives = task.sentence_rows.T
    if miner.anchors is miner.candidates:
        sides = [np.concatenate([anchors, positives, task.pool])]
    else:
        sides = [anchors, np.concatenate([positives, task.pool])]
    embedded = [
        embed_corpus(source, task.corpus, _ranges(side), max_length, device, bf16, learned_from=False, unit=task.unit)
        for source, side in zip((miner.anchors, miner.candidates), sides, strict=False)
    ]
    return EmbeddingSearch(embedded[0], embedded[-1], embedded[-1].rows(task.pool), miner.score, task.spec)


def _ranges(rows: Numbers) -> Numbers:
    """Sentence rows as ranges ``[n, 2]`` of rows that follow each other."""
    rows = np.unique(rows)
    cuts = np.flatnonzero(np.diff(rows) != 1) + 1
    starts = rows[np.concatenate([[0], cuts])]
    stops = rows[np.concatenate([cuts - 1, [len(rows) - 1]])] + 1
    return np.stack([starts, stops], axis=1)
