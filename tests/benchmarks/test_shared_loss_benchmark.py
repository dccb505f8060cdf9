"""benchmarks/shared_loss.py runs, and both forms have one loss and one gradient."""

import pytest

from benchmarks import shared_loss


@pytest.mark.slow
def test_both_forms_have_one_loss_and_one_gradient(capsys):
    shared_loss.main(["--cases", "ntxent", "--pairs", "101", "--dimension", "8", "--rounds", "2", "--threads", "1"])
    printed = capsys.readouterr().out
    lines = [line.split("loss ")[1] for line in printed.splitlines() if " loss " in line]
    assert len(lines) == 2 and float(lines[0]) == pytest.approx(float(lines[1]), rel=1e-5)
    ratios = [line.split()[1] for line in printed.splitlines() if line.startswith("ratio")]
    assert ratios == ["shared-time-ntxent-101-2", "shared-memory-ntxent-101-2"]
