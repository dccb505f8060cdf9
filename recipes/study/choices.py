"""Settings that held-out retrieval chooses, before any encoder of a study is scored on a task.

An entry with ``choose`` has a trial for each combination of values. Trials are trained like encoders, into OUT/trials,
and scored by the MRR of held-out pairs alone. The entry's encoders then have the values of the best trial.
"""

from dataclasses import replace
from typing import Any

from recipes.study.plan import Choice, EncoderSpec, Study, StudyFolder

TRIALS = "trials"  # in a study's folder
MEASURE = "retrieval_mrr"


def trials_of(study: Study) -> Study:
    """The study of all trials, which keeps none of their models."""
    trials = [trial for choice in study.choices for trial in choice.trials]
    return replace(study, name=f"{study.name} trials", keep="none", encoders=trials, choices=[])


def with_choices(study: Study, trials: StudyFolder) -> tuple[Study, list[dict[str, Any]]]:
    """The study with the encoders that its trials chose, each at its entry's place, and what was chosen from what.

    The best trial has the highest MRR of held-out pairs; of equal ones the first. Where no trial came to an end, the
    first is taken, so that its encoders show why.
    """
    encoders: list[EncoderSpec] = []
    records, start = [], 0
    for choice in study.choices:
        scores: list[float | None] = [trials.row(trial).get(MEASURE) for trial in choice.trials]
        ranked = [-1.0 if score is None else score for score in scores]
        best = ranked.index(max(ranked))
        encoders += [*study.encoders[start : choice.position], *choice.candidates[best]]
        start = choice.position
        records.append(_record(choice, scores, best))
    return replace(study, encoders=[*encoders, *study.encoders[start:]], choices=[]), records


def _record(choice: Choice, scores: list[float | None], best: int) -> dict[str, Any]:
    """What a study's file says of a choice: each trial with its MRR (None: it did not end), the chosen one's name."""
    tried = [{"name": trial.name, MEASURE: score} for trial, score in zip(choice.trials, scores, strict=True)]
    return {"name": choice.name, "family": choice.candidates[best][0].family, "trials": tried,
            "chosen": choice.trials[best].name}  # fmt: skip
