"""benchmarks/retrieval.py runs, and both sides find the same passages."""

import pytest

from benchmarks import retrieval


@pytest.mark.slow
def test_both_sides_find_the_same_passages(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    retrieval.main(["--queries", "20", "--passages", "3000"])
    printed = capsys.readouterr().out
    assert printed.count("100.0000% of their passages are ours") == len(retrieval.SCORES)
    ratios = [line.split() for line in printed.splitlines() if line.startswith("ratio")]
    assert [name for _, name, _ in ratios] == [
        f"{what}-search-{s}" for s in ("cosine", "dot") for what in ("time", "memory")
    ]


def test_rows_have_unit_length_and_a_seed_gives_the_same_ones(tmp_path, monkeypatch):
    import numpy as np

    monkeypatch.setattr(retrieval, "BLOCK", 7)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        retrieval.write_rows(tmp_path / name, 20, seed)
    rows = np.fromfile(tmp_path / "a", dtype=np.float32).reshape(20, retrieval.DIMENSION)
    assert np.linalg.norm(rows, axis=1) == pytest.approx(np.ones(20), abs=1e-5)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
