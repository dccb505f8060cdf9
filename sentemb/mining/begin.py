"""The mined hard negatives that a run begins with, and what its config.json says of them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from sentemb.encoders import Prompts
from sentemb.errors import InputError
from sentemb.mining.by_model import finished_miner, miner_in_training, search_by_model
from sentemb.mining.by_words import WordSearch, fingerprint_of_bm25
from sentemb.mining.mine import MinedNegatives, MiningTask, mine_negatives
from sentemb.mining.refreshed import RefreshedNegatives
from sentemb.mining.spec import BM25, SELF
from sentemb.objectives import Objective
from sentemb.pairs import PairNegatives, Pairs
from sentemb.teacher import TeacherFolder


@dataclass(frozen=True)
class Computation:
    """How a model finds hard negatives."""

    device: torch.device
    max_length: int  # tokens that are read of a sentence, at most
    prompts: Prompts  # of the model that is trained
    bf16: bool  # products of the model that is trained
    precision_of: Callable[[bool], str]  # of a finished one, by whether it is a transformer

    def fingerprint(self, miner: str, bf16: bool) -> str:
        """What decides a model's scores: each kind of device rounds differently."""
        return f"{miner} {self.max_length} {self.device.type} {bf16}"


def refuse_no_use_of_negatives(objective: Objective | None, pairs: Pairs) -> None:
    """InputError if an objective takes no hard negatives, or the pairs are runs of sentences or crops."""
    if pairs.are_contiguous:
        raise InputError(
            "--negatives mined is for pairs, and --pairs contiguous are runs of sentences; choose neighbours, or leave "
            "--negatives out"
        )
    if pairs.passages is not None and pairs.passages.settings.kind == "crops":
        raise InputError(
            "--negatives mined does not fit --pairs passages:kind=crops, which draws both texts of a pair again in "
            "each epoch; choose kind=inverse_cloze or kind=title, or leave --negatives out"
        )
    if objective is not None and "negatives" not in objective.needs | objective.takes:
        raise InputError(
            "--negatives mined is for objectives that take hard negatives, and this one does not; choose infonce, "
            "hard_negatives or dpr, or leave --negatives out"
        )


def begin_mining(
    task: MiningTask, computation: Computation, begun: Mapping[str, Any]
) -> tuple[PairNegatives, dict[str, Any]]:
    """The hard negatives of a run, from the cache or put there, and what its config.json gets of them.

    Args:
        task: the pairs and the pool.
        computation: how a model finds them.
        begun: what config.json has of them, where a run is continued: they are computed as they were then.

    Raises:
        InputError: the model cannot be used, or is not the one that the run was started with.
    """
    spec, first = task.spec, None
    about: dict[str, Any] = {"by": spec.by, "pool": len(task.pool)}
    if spec.by == BM25:
        search = partial(WordSearch.of, task.corpus, task.pool, spec)
        first = mine_negatives(task, fingerprint_of_bm25(task.corpus.language), search)
    elif spec.by != SELF:
        first, computed = _by_finished_model(task, computation, begun)
        about |= computed
    if first is not None:
        about["missing"] = first.missing
        if not spec.refresh:
            return first, about
    mine = partial(_mine_in_training, task, computation)
    return RefreshedNegatives(len(task.pairs), spec.per_anchor, spec.refresh, mine, first), about


def _by_finished_model(
    task: MiningTask, computation: Computation, begun: Mapping[str, Any]
) -> tuple[MinedNegatives, dict[str, Any]]:
    miner, name = finished_miner(task.spec.by), task.spec.by
    if begun.get("fingerprint", miner.fingerprint) != miner.fingerprint:
        raise InputError(
            f"the run was started with hard negatives by another model of the name {name} (fingerprint "
            f"{begun['fingerprint']}, now {miner.fingerprint}); put the former model back, or begin a new run"
        )
    is_transformer = isinstance(miner.anchors, TeacherFolder) and miner.anchors.is_transformer
    precision = str(begun.get("precision") or computation.precision_of(is_transformer))
    bf16 = precision == "bf16"
    search = partial(search_by_model, miner, task, computation.max_length, computation.device, bf16)
    mined = mine_negatives(task, computation.fingerprint(miner.fingerprint, bf16), search)
    return mined, {"fingerprint": miner.fingerprint, "precision": precision}


def _mine_in_training(
    task: MiningTask, computation: Computation, model: SentenceTransformer
) -> tuple[MinedNegatives, Sequence[Path]]:
    """The hard negatives that a model finds as it is now, and the folders that this has made."""
    miner, bf16 = miner_in_training(model, computation.prompts), computation.bf16
    search = search_by_model(miner, task, computation.max_length, computation.device, bf16)
    mined = mine_negatives(task, computation.fingerprint(miner.fingerprint, bf16), lambda: search)
    return mined, (mined.folder, search.anchors.folder, search.candidates.folder)


def mining_notes(mined: Mapping[str, Any] | None, pairs: Pairs) -> list[str]:
    """Notes about the mined hard negatives, a sentence each."""
    if not mined or not mined.get("missing") or pairs.negatives is None:
        return []
    share = mined["missing"] / (len(pairs) * pairs.negatives.per_pair)
    unit = "sentences" if pairs.passages is None else "passages"
    far = "have a word in common" if mined.get("by") == BM25 else "are far enough below the positive's score"
    return [f"{share:.1%} of the hard negatives are missing: too few {unit} of the pool {far}; these pairs have fewer"]
