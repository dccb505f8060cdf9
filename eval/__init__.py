"""Scoring: SentEval's tasks and probes, similarity, geometry and retrieval of held-out sentences, tables and tests."""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from eval.evaluator import SentEvalEvaluator
    from eval.probes import PROBES, SEED, Fold, Logistic, Result, kfold, nested, split, stratified
    from eval.python_api import evaluate
    from eval.scorer import Scored, ScoringSettings, items_of, measure, score, score_model, stsb_dev, stsb_dev_score
    from eval.search import (
        SearchEvaluator,
        SearchScores,
        SearchTask,
        check_search,
        compare_search,
        describe_search,
        held_out_task,
        measure_search,
        read_dev_and_test,
        read_search_task,
        search_dev_score,
        search_halves,
        search_items,
        search_sample,
        search_task,
    )
    from eval.senteval_api import SE
    from eval.significance import compare
    from eval.tables import PACKAGES, Table, as_text, format_table
    from eval.tasks import GROUPS, TASKS, Data, Task, choose_tasks, data_folder, named, read, refuse_missing

__all__ = [
    "Data",
    "Fold",
    "GROUPS",
    "Logistic",
    "PACKAGES",
    "PROBES",
    "Result",
    "SE",
    "SEED",
    "Scored",
    "ScoringSettings",
    "SearchEvaluator",
    "SearchScores",
    "SearchTask",
    "SentEvalEvaluator",
    "TASKS",
    "Table",
    "Task",
    "as_text",
    "check_search",
    "choose_tasks",
    "compare",
    "compare_search",
    "data_folder",
    "describe_search",
    "evaluate",
    "format_table",
    "held_out_task",
    "items_of",
    "kfold",
    "measure",
    "measure_search",
    "named",
    "nested",
    "read",
    "read_dev_and_test",
    "read_search_task",
    "refuse_missing",
    "score",
    "score_model",
    "search_dev_score",
    "search_halves",
    "search_items",
    "search_sample",
    "search_task",
    "split",
    "stratified",
    "stsb_dev",
    "stsb_dev_score",
]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "SentEvalEvaluator": "eval.evaluator",
        "Fold": "eval.probes",
        "Logistic": "eval.probes",
        "PROBES": "eval.probes",
        "Result": "eval.probes",
        "SEED": "eval.probes",
        "kfold": "eval.probes",
        "nested": "eval.probes",
        "split": "eval.probes",
        "stratified": "eval.probes",
        "Scored": "eval.scorer",
        "ScoringSettings": "eval.scorer",
        "score_model": "eval.scorer",
        "evaluate": "eval.python_api",
        "items_of": "eval.scorer",
        "measure": "eval.scorer",
        "score": "eval.scorer",
        "stsb_dev": "eval.scorer",
        "stsb_dev_score": "eval.scorer",
        **dict.fromkeys(
            (
                *("SearchEvaluator", "SearchScores", "SearchTask", "check_search"),
                *("compare_search", "describe_search", "held_out_task", "measure_search"),
                *("read_dev_and_test", "read_search_task", "search_dev_score", "search_halves"),
                *("search_items", "search_sample", "search_task"),
            ),
            "eval.search",
        ),
        "SE": "eval.senteval_api",
        "compare": "eval.significance",
        "PACKAGES": "eval.tables",
        "Table": "eval.tables",
        "as_text": "eval.tables",
        "format_table": "eval.tables",
        "Data": "eval.tasks",
        "Task": "eval.tasks",
        "GROUPS": "eval.tasks",
        "TASKS": "eval.tasks",
        "choose_tasks": "eval.tasks",
        "data_folder": "eval.tasks",
        "named": "eval.tasks",
        "read": "eval.tasks",
        "refuse_missing": "eval.tasks",
    },
)
