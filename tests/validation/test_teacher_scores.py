"""How near an encoder is to a teacher: against slow loops, and where the answer is plain."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from sentemb.validation import TeacherReference, teacher_scores

GENERATOR = np.random.default_rng(0)
TEACHER = GENERATOR.normal(size=(40, 6)).astype(np.float16)
SENTENCES = [f"sentence {i}" for i in range(len(TEACHER))]
REFERENCE = TeacherReference(SENTENCES, TEACHER)


def encoder(rows):
    """Gives row i for sentence i."""
    return lambda texts: np.stack([rows[int(text.split()[1])] for text in texts])


def cosine(a, b) -> float:
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_both_scores_are_those_of_slow_loops(monkeypatch):
    monkeypatch.setattr(teacher_scores, "PAIRS", 300)
    student, matrix = GENERATOR.normal(size=(40, 3)), torch.from_numpy(GENERATOR.normal(size=(3, 6))).float()
    scores = REFERENCE.scores(encoder(student), lambda rows: rows @ matrix)
    drawn = np.random.default_rng(teacher_scores.SEED)
    pairs = zip(drawn.integers(40, size=300), drawn.integers(1, 40, size=300), strict=True)
    pairs = [(i, (i + apart) % 40) for i, apart in pairs]
    assert all(i != j for i, j in pairs)
    teacher = TEACHER.astype(np.float64)
    by_both = [[cosine(rows[i], rows[j]) for i, j in pairs] for rows in (student.astype(np.float32), teacher)]
    assert scores["teacher_similarity"] == pytest.approx(spearmanr(*by_both).statistic, abs=1e-6)
    mapped = student @ matrix.numpy()
    expected = np.mean([cosine(mapped[i], teacher[i]) for i in range(40)])
    assert scores["teacher_cosine"] == pytest.approx(expected, abs=1e-6)


def test_turned_and_longer_embeddings_are_as_alike_as_the_teacher_says():
    turn = np.linalg.qr(GENERATOR.normal(size=(6, 6)))[0]
    student = 7 * TEACHER.astype(np.float64) @ turn
    scores = REFERENCE.scores(encoder(student), lambda rows: rows @ torch.from_numpy(turn.T).float())
    assert scores == pytest.approx({"teacher_similarity": 1, "teacher_cosine": 1}, abs=1e-4)


def test_what_cannot_be_measured_is_left_out():
    assert REFERENCE.scores(encoder(np.ones((40, 2)))) == {"teacher_similarity": 0}  # all alike
    assert set(REFERENCE.scores(encoder(TEACHER), lambda rows: None)) == {"teacher_similarity"}
    assert TeacherReference(SENTENCES[:2], TEACHER[:2]).scores(encoder(TEACHER)) == {}


def test_similarity_is_to_the_teacher_itself_and_cosine_to_what_is_learned_of_it():
    generator = np.random.default_rng(1)
    plain = generator.normal(size=(20, 6)) + 3  # far from the origin: centred, its cosines are others
    targets = (plain - plain.mean(axis=0))[:, :4]
    sentences = [str(number) for number in range(20)]
    reference = TeacherReference(sentences, plain.astype(np.float32), targets.astype(np.float32))
    scores = reference.scores(
        lambda texts: plain[[int(text) for text in texts]], lambda rows: rows[:, :4] - plain.mean(axis=0)[:4]
    )
    assert scores["teacher_similarity"] == pytest.approx(1, abs=1e-4)
    assert scores["teacher_cosine"] == pytest.approx(1, abs=1e-4)
