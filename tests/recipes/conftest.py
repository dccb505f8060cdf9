"""Made-up tasks for recipes."""

from pathlib import Path

import numpy as np
import pytest

from eval import TASKS


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """MR and CR of made-up sentences, in SentEval's layout and with its numbers of rows."""
    folder = tmp_path_factory.mktemp("senteval")
    rng = np.random.default_rng(0)
    words = {1: ["good", "fine", "kind", "the", "king"], 0: ["bad", "dull", "poor", "the", "ship"]}
    for name in ("MR", "CR"):
        for file in TASKS[name].files:
            path = folder / file.path
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [" ".join(rng.choice(words[file.label or 0], 4)) + f" {i % 97}" for i in range(file.rows)]
            path.write_text("\n".join(lines) + "\n", encoding=TASKS[name].encoding)
    return folder
