"""An encoding that is killed again and again ends with the bytes of one in one go."""

import os
import signal
from pathlib import Path

import pytest

import sentemb
from sentemb.encoding import corpus_encoder
from sentemb.encoding import writer as module
from tests.kills import exit_code_of, kill_in

KILLS = 10


def encode(model: str, text: str, out: Path, settings: dict, batches: int | None, before_sync: bool) -> None:
    """Encode in windows of two; killed in the batch after ``batches`` of them, or where rows are synced."""
    os.environ["SENTEMB_CACHE"] = str(out.parent / "cache")
    module.WINDOW = 2
    kill_in(corpus_encoder.CorpusEncoder, "embed", batches, before_sync)
    sentemb.encode(model, text, out, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["numpy", "parquet"])
def test_an_encoding_killed_ten_times_is_equal_to_the_byte(kind, models, text_file, tmp_path):
    models("transformer").save(str(tmp_path / "model"), create_model_card=False)
    settings = {"format": kind, "text": True}
    arguments = (str(tmp_path / "model"), str(text_file))
    assert exit_code_of(encode, *arguments, tmp_path / "straight", settings, None, False) == 0
    for kill in range(KILLS):
        # (a measurement's two batches come before the first window's)
        assert exit_code_of(encode, *arguments, tmp_path / "killed", settings, 4, kill % 2 == 1) == -signal.SIGKILL
    assert not (tmp_path / "killed").exists()
    assert int((tmp_path / ".killed.unfinished" / "done").read_text()) > 0
    assert exit_code_of(encode, *arguments, tmp_path / "killed", settings, None, False) == 0
    straight, killed = ({p.name: p.read_bytes() for p in (tmp_path / n).iterdir()} for n in ("straight", "killed"))
    assert set(straight) >= {"manifest.json", "meta.json"} and killed == straight
