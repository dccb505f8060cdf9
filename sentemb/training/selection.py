"""The best model so far and the last one scored: best/ and last/ of a run folder."""

import math
from pathlib import Path

from sentemb.runs import RunFolder, read_selected
from sentemb.storage import verify


def saved_best(run: Path, done: int, dev: str | None) -> float:
    """The dev score of ``best/``; -inf where there is none, or one of a step that is made again.

    (Such a folder stays until the next score, which replaces it.)
    """
    try:
        best = RunFolder(run).best
        verify(best)
        about = read_selected(best)
        return float(about[dev or ""]) if 0 <= about["step"] <= done and done else -math.inf
    except (OSError, ValueError, KeyError, TypeError):
        return -math.inf
