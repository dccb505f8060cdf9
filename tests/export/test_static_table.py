"""The command that makes a static encoder small: what it writes, what it prints, what it refuses."""

import re
import subprocess
import sys

import numpy as np
import pytest

from sentemb.encoders import ENCODERS, load
from sentemb.encoders.model2vec import PRECISIONS
from sentemb.export import main
from sentemb.registry import build
from tests.helpers import SMALL, STATIC


@pytest.fixture
def checkpoint(encoder, tmp_path) -> str:
    """A small static encoder's folder."""
    encoder(f"{STATIC},out=4").save(str(tmp_path / "words"), create_model_card=False)
    return str(tmp_path / "words")


@pytest.mark.parametrize(("precision", "most"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 1e-2)])
def test_the_difference_printed_is_that_of_the_embeddings(precision, most, checkpoint, tmp_path, capsys):
    main([checkpoint, str(tmp_path / "small"), "--precision", precision])
    first, second = capsys.readouterr().out.splitlines()
    assert f"4 dimensions in {precision}" in first
    difference, largest = map(float, re.findall(r"is ([\d.e+-]+\d)", second)[:2])
    texts = ["It was an uncertain spring.", "Hello!", "What on earth do you mean by that, sir?"]
    before, after = (load(folder, device="cpu").encode(texts) for folder in (checkpoint, tmp_path / "small"))
    assert np.abs(before - after).max() <= 2 * difference <= 2 * most * largest


def test_another_encoder_and_a_folder_in_use_exit_with_2(encoder, checkpoint, tmp_path, capsys):
    encoder(SMALL).save(str(tmp_path / "rnn"), create_model_card=False)
    for folder, out, reason in (
        (tmp_path / "rnn", tmp_path / "small", "WordEmbeddings"),
        (checkpoint, checkpoint, "overwritten"),
        (tmp_path / "nothing", tmp_path / "small", "nothing"),
    ):
        with pytest.raises(SystemExit) as ended:
            main([str(folder), str(out)])
        assert ended.value.code == 2
        error = capsys.readouterr().err.strip().splitlines()[-1]
        assert error.startswith("error: ") and reason in error
    assert not (tmp_path / "small").exists()


def test_a_place_that_cannot_be_written_to_is_told_of(checkpoint, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        main([checkpoint, str(tmp_path / "file" / "small")])
    assert ended.value.code == 2 and "cannot be written" in capsys.readouterr().err


def test_unknown_words_are_noted_where_there_can_be_some(tmp_path, capsys):
    (tmp_path / "vectors.txt").write_text("cat 1 0\ndog 0 1\n")
    model = build(ENCODERS, f"static:embeddings={tmp_path / 'vectors.txt'}", "encoder", texts=list, max_length=9)
    model.save(str(tmp_path / "words"), create_model_card=False)
    main([str(tmp_path / "words"), str(tmp_path / "small")])
    assert "note: model2vec leaves unknown words out" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = "from sentemb.export.command import parser; import sys; parser().print_help(); print('torch' in sys.modules)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "{" + ",".join(PRECISIONS) + "}" in printed and printed.endswith("False\n")
