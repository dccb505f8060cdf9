"""benchmarks/ceilings.py: of any text it gives what a student of that teacher would learn."""

import numpy as np
import pytest

from benchmarks import ceilings
from sentemb.corpus import open_corpus
from sentemb.teacher import TeacherFolder, embed_corpus, parse_teacher, projected
from tests.teacher.test_teacher import LENGTH, TEXTS


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return open_corpus([TEXTS[:-6], TEXTS[-6:]])


def targets(spec: str, corpus) -> ceilings.Targets:
    folder = TeacherFolder(parse_teacher(spec))
    return ceilings.Targets(folder, ceilings.Embedded(folder, LENGTH, bf16=False), corpus)


@pytest.mark.parametrize("options", ["", ":layers=1-3", ":dim=4", ":layers=1-3,scale=standard", ":layers=1-2,dim=5"])
def test_targets_of_training_sentences_are_those_of_a_run(bert, corpus, options):
    folder, training = TeacherFolder(parse_teacher(bert + options)), corpus.split()[0]
    learned = projected(embed_corpus(folder, corpus, training, LENGTH), folder.spec)
    rows = np.arange(*training[0])
    made = targets(bert + options, corpus)
    encoded = made.encode(corpus.sentences(rows))
    np.testing.assert_allclose(encoded, learned.rows(rows), rtol=1e-2, atol=1e-2)  # (float16, and other batches)
    assert made.dimension == learned.dimension


def test_each_text_is_embedded_once(bert, corpus, monkeypatch):
    embedded = ceilings.Embedded(TeacherFolder(parse_teacher(bert)), LENGTH, bf16=False)
    texts = [TEXTS[0], TEXTS[1], TEXTS[0]]
    first = embedded.encode(texts)
    monkeypatch.setattr(embedded.model, "embed", lambda rows: pytest.fail("embedded again"))
    assert np.array_equal(embedded.encode(texts[::-1]), first[::-1])
    assert np.array_equal(first[0], first[2]) and not np.array_equal(first[0], first[1])


def test_a_teacher_that_is_not_there_is_named(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        ceilings.main(["--tasks", "MR-sample", "--teachers", str(tmp_path / "none")])
    assert str(stopped.value).startswith("error: ") and "none" in str(stopped.value)
    assert capsys.readouterr().out == ""
