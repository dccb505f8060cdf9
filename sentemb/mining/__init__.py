"""Hard negatives that no label names: near texts of a pool that are below the positive, or share words.

:mod:`sentemb.mining.spec` reads ``--negatives``, :mod:`sentemb.mining.candidates` says what may be one,
:mod:`sentemb.mining.by_model` and :mod:`sentemb.mining.by_words` find them, :mod:`sentemb.mining.mine` keeps them in
the cache, :mod:`sentemb.mining.passages` does so for pairs of passages, :mod:`sentemb.mining.refreshed` replaces them
while a model trains, and :mod:`sentemb.mining.begin` says what a run begins with. Nothing heavy is imported before a
name is asked for.
"""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.mining.begin import Computation, begin_mining, mining_notes, refuse_no_use_of_negatives
    from sentemb.mining.by_model import finished_miner, miner_in_training, search_by_model
    from sentemb.mining.by_words import WordSearch, fingerprint_of_bm25, refuse_missing_library
    from sentemb.mining.candidates import candidate_pool
    from sentemb.mining.mine import MinedNegatives, MiningTask, mine_negatives
    from sentemb.mining.passages import PassageTexts, passage_pool, passage_task
    from sentemb.mining.refreshed import RefreshedNegatives
    from sentemb.mining.spec import BM25, NEGATIVES, SELF, MinedSpec, parse_negatives

__all__ = [
    "BM25",
    "Computation",
    "NEGATIVES",
    "SELF",
    "MinedNegatives",
    "MinedSpec",
    "MiningTask",
    "PassageTexts",
    "RefreshedNegatives",
    "WordSearch",
    "begin_mining",
    "candidate_pool",
    "fingerprint_of_bm25",
    "finished_miner",
    "mine_negatives",
    "miner_in_training",
    "mining_notes",
    "parse_negatives",
    "passage_pool",
    "passage_task",
    "refuse_missing_library",
    "refuse_no_use_of_negatives",
    "search_by_model",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "BM25": "sentemb.mining.spec",
        "Computation": "sentemb.mining.begin",
        "NEGATIVES": "sentemb.mining.spec",
        "SELF": "sentemb.mining.spec",
        "MinedNegatives": "sentemb.mining.mine",
        "MinedSpec": "sentemb.mining.spec",
        "MiningTask": "sentemb.mining.mine",
        "PassageTexts": "sentemb.mining.passages",
        "RefreshedNegatives": "sentemb.mining.refreshed",
        "WordSearch": "sentemb.mining.by_words",
        "begin_mining": "sentemb.mining.begin",
        "candidate_pool": "sentemb.mining.candidates",
        "fingerprint_of_bm25": "sentemb.mining.by_words",
        "finished_miner": "sentemb.mining.by_model",
        "mine_negatives": "sentemb.mining.mine",
        "miner_in_training": "sentemb.mining.by_model",
        "mining_notes": "sentemb.mining.begin",
        "parse_negatives": "sentemb.mining.spec",
        "passage_pool": "sentemb.mining.passages",
        "passage_task": "sentemb.mining.passages",
        "refuse_missing_library": "sentemb.mining.by_words",
        "refuse_no_use_of_negatives": "sentemb.mining.begin",
        "search_by_model": "sentemb.mining.by_model",
    },
)
