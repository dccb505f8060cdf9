"""The table of benchmarks/runtimes.py, of one small encoder."""

import re
from importlib.util import find_spec

import pytest

from benchmarks.runtimes import main
from tests.helpers import STATIC


@pytest.mark.skipif(find_spec("onnxscript") is None, reason="onnxscript is not installed (the extra onnx)")
def test_a_row_has_differences_and_speeds(encoder, book_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    encoder(STATIC).save(str(tmp_path / "words"), create_model_card=False)
    main([f"words={tmp_path / 'words'}", "--corpus", str(book_file), "--sentences", "9", "--rounds", "1"])
    *_, row, ratio = capsys.readouterr().out.splitlines()
    name, *greatest, quality, speeds = [cell.strip() for cell in row.strip("|").split("|")]
    assert (name, quality) == ("words", "-") and len(greatest) == 3
    assert all(float(value) < 1e-5 for value in greatest) and len(speeds.split(", ")) == 3
    assert re.fullmatch(r"ratio words \d+\.\d\d", ratio)
