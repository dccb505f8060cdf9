"""Settings that held-out retrieval chooses, encoders that start from others, and differences of families."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from safetensors.torch import load_file
from scipy.stats import linregress, ttest_rel
from scipy.stats import t as student

from recipes import sweep
from recipes.study import StudyFolder, prepare, read_study, refuse_others, trials_of, with_choices, with_starts
from recipes.study.analysis.difference import Difference, difference
from recipes.study.analysis.families import of_families
from recipes.study.analysis.sentences_seen import fitted, over_sentences
from recipes.study.figures.differences import differences_figure, sentences_figure
from recipes.study.plan import HEAD
from recipes.study.results import complete
from recipes.study.run.measure import (
    CLASSES,
    ClassSentences,
    _of_points,
    class_sentences,
    document_accuracy,
    information_bound,
    nearest_negatives,
)
from recipes.study.run.scheduler import asked
from recipes.study.run.training import Job, train_jobs
from recipes.study.run.worker import trained_head
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.pairs import neighbours
from sentemb.validation import HeldOutPairs

SMALL = "static:embeddings=random,dim=4,vocabulary=270"
COVERAGE = 0.95


def plan(tmp_path: Path, **content: object) -> str:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def chosen_of(tmp_path: Path) -> str:
    return plan(
        tmp_path,
        encoders=[
            {"family": "first"},
            {"family": "a", "objective": "infonce:temperature={tau}", "choose": {"tau": [0.1, 0.5], "lr": [0.1, 0.2]},
             "vary": {"seed": [1, 2]}},
            {"family": "last", "seed": 3},
        ],
        references=[{"family": "untrained", "trained": False}],
    )  # fmt: skip


def test_an_entry_with_choose_has_a_trial_a_combination_and_its_encoders_after_each_outcome(tmp_path):
    study = read_study(chosen_of(tmp_path))
    (choice,) = study.choices
    assert [trial.name for trial in choice.trials] == [
        f"a-tau-{tau}-lr-{lr}" for tau in (0.1, 0.5) for lr in (0.1, 0.2)
    ]
    assert [trial.settings["seed"] for trial in choice.trials] == 4 * [0]
    for trial, candidates in zip(choice.trials, choice.candidates, strict=True):
        assert [each.name for each in candidates] == ["a-seed-1", "a-seed-2"]
        for each in candidates:
            assert all(each.settings[key] == trial.settings[key] for key in ("lr", "objective"))
        assert candidates[0].setting == candidates[1].setting
    assert [planned.name for planned in trials_of(study).encoders] == [trial.name for trial in choice.trials]
    assert trials_of(study).keep == "none"
    assert len(study.everything) == 3 + 4 + 4 * 2


@pytest.mark.parametrize(
    ("scores", "best"), [([0.1, 0.4, 0.4, 0.2], 1), ([None, None, 0.01, None], 2), ([None] * 4, 0)]
)
def test_the_trial_with_the_highest_mrr_decides(tmp_path, scores, best):
    study, place = read_study(chosen_of(tmp_path)), StudyFolder(tmp_path / "trials")
    trials = study.choices[0].trials
    for trial, score in zip(trials, scores, strict=True):
        place.run(trial).mkdir(parents=True)
        row = {"status": "diverged"} if score is None else {"status": "ok", "retrieval_mrr": score}
        (place.run(trial) / "row.json").write_text(json.dumps(row))
        (place.run(trial) / "measured.npz").write_text("there")
    resolved, (record,) = with_choices(study, place)
    assert [each.name for each in resolved.encoders] == ["first", "a-seed-1", "a-seed-2", "last", "untrained"]
    assert resolved.encoders[1].settings["objective"] == trials[best].settings["objective"]
    assert resolved.encoders[1].settings["lr"] == trials[best].settings["lr"] and not resolved.choices
    assert record["chosen"] == trials[best].name and [each["retrieval_mrr"] for each in record["trials"]] == scores


@pytest.mark.parametrize(
    ("entry", "seed"),
    [({}, 1), ({"seed": 3}, 0), ({"vary": {"seed": [0, 1, 3]}}, 2), ({"seed": 5, "vary": {"seed": [0, 1]}}, 5)],
)
def test_trials_have_a_seed_that_no_encoder_of_theirs_has(tmp_path, entry, seed):
    entries = [{"family": "a", "choose": {"lr": [0.1, 0.2]}, **entry}]
    (choice,) = read_study(plan(tmp_path, encoders=entries)).choices
    assert [trial.settings["seed"] for trial in choice.trials] == [seed, seed]


@pytest.mark.parametrize("seeds", [[0], [0, 1]])
def test_a_seed_in_a_spec_of_a_trial_is_that_of_the_trial(tmp_path, seeds):
    entry = {"encoder": "static:dim={seed}8", "choose": {"lr": [0.1, 0.2]}, "vary": {"seed": seeds}}
    (choice,) = read_study(plan(tmp_path, encoders=[entry])).choices
    for trial in choice.trials:
        assert trial.settings["seed"] not in seeds
        assert trial.settings["encoder"] == f"static:dim={trial.settings['seed']}8"


def test_a_family_may_have_the_value_that_varies_in_its_name(tmp_path):
    entry = {"family": "batch {batch_size}", "vary": {"batch_size": [8, 16], "seed": [1, 2]}}
    encoders = read_study(plan(tmp_path, encoders=[entry])).encoders
    assert [each.family for each in encoders] == ["batch 8", "batch 8", "batch 16", "batch 16"]
    assert encoders[-1].name == "batch_16-seed-2"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"encoders": [{"choose": {"lr": [0.1]}}]}, "choose of entry 1 of encoders has one combination"),
        ({"encoders": [{"choose": [1]}]}, "choose of entry 1 of encoders must be names with lists"),
        (
            {"encoders": [{"choose": {"seed": [1, 2]}, "vary": {"seed": [1, 2]}}]},
            "in which trials differ from encoders",
        ),
        ({"encoders": [{"choose": {"lr": [1, 2]}, "vary": {"lr": [1, 2]}}]}, "has lr under choose and also"),
        (
            {"encoders": [{"family": "a", "vary": {"lr": [1, 2]}}], "compare": {"c": ["a", "a"]}},
            "a, a family of 'c', has encoders that differ in more than their seed",
        ),
        ({"encoders": [{"family": "a"}], "compare": {"claim": ["a"]}}, "compare has two families a claim"),
        ({"encoders": [{"family": "near"}], "compare": {"c": ["near", "neat"]}}, "did you mean 'near'"),
    ],
)
def test_choices_and_claims_that_cannot_be_are_refused(tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        read_study(plan(tmp_path, **content))


def test_an_encoder_starts_from_another_of_its_study(tmp_path):
    entries = [{"family": "poor"}, {"family": "fine", "init": "poor", "seed": 1}]
    place = StudyFolder(tmp_path / "out")
    study = with_starts(prepare(read_study(plan(tmp_path, encoders=entries)), "sample", None, "MR-sample"), place)
    assert study.encoders[1].settings["init"] == str(tmp_path / "out" / "encoders" / "poor" / "model")
    assert study.encoders[0].settings["init"] is None and with_starts(study, place) == study
    for more, message in (
        ({"family": "finer", "init": "fine", "seed": 2}, "starts from another one itself"),
        ({"family": "tried", "init": "poor", "choose": {"lr": [0.1, 0.2]}}, "leave choose or init out"),
    ):
        with pytest.raises(InputError, match=message):
            with_starts(read_study(plan(tmp_path, encoders=[*entries, more])), place)


def test_an_encoder_starts_from_one_whose_settings_are_chosen_and_is_the_same_when_it_goes_on(tmp_path):
    tried = {"family": "a", "choose": {"lr": [0.1, 0.2]}, "vary": {"seed": [1, 2]}}
    content = plan(tmp_path, encoders=[tried, {"family": "fine", "init": "a-seed-2"}])
    place = StudyFolder(tmp_path / "out")
    study = with_starts(prepare(read_study(content), "sample", None, "MR-sample"), place)
    (fine,) = study.encoders
    assert fine.settings["init"] == str(tmp_path / "out" / "encoders" / "a-seed-2" / "model")
    resolved, _ = with_choices(study, StudyFolder(place.out / "trials"))
    assert resolved.encoders[-1] == fine and with_starts(resolved, place) == resolved
    place.run(fine).mkdir(parents=True)
    place.planned(fine).parent.mkdir()
    place.planned(fine).write_text(json.dumps({"asked": asked(fine)}))
    refuse_others(place, study)
    refuse_others(place, resolved)


def test_starts_from_a_choice_that_cannot_be_are_refused(tmp_path):
    tried, place = {"family": "a", "choose": {"lr": [0.1, 0.2]}}, StudyFolder(tmp_path / "out")
    for more, message in (
        ([{"family": "b", "init": "a", "choose": {"lr": [0.1, 0.2]}}], "leave choose or init out"),
        ([{"family": "b", "choose": {"init": ["elsewhere", "a"]}}], "leave choose or init out"),
        ([{"family": "b", "init": "a"}, {"family": "c", "init": "b", "seed": 1}], "starts from another one itself"),
    ):
        with pytest.raises(InputError, match=message):
            with_starts(read_study(plan(tmp_path, encoders=[tried, *more])), place)


def test_a_start_whose_model_would_be_removed_is_refused(tmp_path):
    entries, place = [{"family": "poor"}, {"family": "fine", "init": "poor", "seed": 1}], StudyFolder(tmp_path / "out")
    with pytest.raises(InputError, match="encoder fine: init is poor, of which keep: none leaves no model"):
        with_starts(read_study(plan(tmp_path, keep="none", encoders=entries)), place)
    study = read_study(plan(tmp_path, keep="none", encoders=entries[:1]))
    assert with_starts(study, place) == study


def test_a_head_is_written_only_where_the_model_is_of_the_last_step(tmp_path, book_file, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    base = {"encoder": SMALL, "max_steps": 2, "batch_size": 16, "eval_every": 1, "save_every": 0, "dev": "heldout"}
    entries = [{"head": "projection:out=3", "select": select, "name": select} for select in ("last", "best")]
    study = read_study(plan(tmp_path, base=base, encoders=entries))
    last, best = prepare(study, str(book_file), None, "CR").encoders
    with (tmp_path / "log.txt").open("w") as log:
        jobs = [Job(each, tmp_path / "out" / each.name, log) for each in (last, best)]
        assert not train_jobs(jobs, open_corpus(str(book_file)), 1)
    assert [(job.row, (job.out / HEAD).is_file()) for job in jobs] == [(None, True), (None, False)]
    model = load(jobs[0].out / "model")
    head = trained_head(last, jobs[0].out, model)
    assert head is not None and not head.training and head(torch.ones(1, 4)).shape == (1, 3)
    shutil.copy(jobs[0].out / HEAD, jobs[1].out / HEAD)  # as an earlier version left it
    assert trained_head(best, jobs[1].out, model) is None


def test_processes_are_as_many_as_the_encoders_after_choices_can_use(tmp_path):
    entries = [{"family": "a", "choose": {"lr": [0.1, 0.2]}, "vary": {"seed": [1, 2, 3]}}, {"family": "b"}]
    study = read_study(plan(tmp_path, encoders=entries))
    assert study.size == 4 == len(with_choices(study, StudyFolder(tmp_path / "trials"))[0].encoders)


@pytest.mark.slow
def test_a_study_with_choices_heads_and_starts_from_end_to_end(tmp_path, book_file, data, monkeypatch, capsys):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    shared = {"encoder": SMALL, "max_steps": 4, "batch_size": 16, "eval_every": 0, "save_every": 0, "dev": "heldout"}
    study = plan(
        tmp_path, name="both", corpus=str(book_file), tasks="CR", base=shared,
        encoders=[
            {"family": "a", "choose": {"lr": [0.001, 0.01]}, "vary": {"seed": [1, 2, 3]}, "head": "projection:out=3"},
            {"family": "fine", "init": "poor", "objective": "align_uniform", "vary": {"seed": [1, 2, 3]}},
            {"family": "poor"},
        ],
        references=[{"family": "untrained", "trained": False, "vary": {"seed": [1, 2, 3]}}],
        compare={"it helps": ["fine", "poor"], "so do others": ["a", "poor"]},
    )  # fmt: skip
    out = tmp_path / "out"
    arguments = ["--study", study, "--data", str(data), "--out", str(out), "--folds", "2", "--jobs", "1"]
    sweep.main([*arguments, "--dry-run"])
    assert "7 encoders and 3 for reference after 2 trials" in capsys.readouterr().out
    sweep.main(arguments)
    table = pd.read_csv(out / "results.csv")
    assert (table["status"] == "ok").all() and len(table) == 10
    scores = {
        row.parent.name: json.loads(row.read_text())["retrieval_mrr"]
        for row in (out / "trials").glob("encoders/*/row.json")
    }
    best = max(scores, key=lambda name: scores[name])
    about = json.loads((out / "study.json").read_text())
    assert about["choices"][0]["chosen"] == best and set(table["lr"][:3]) == {float(best.rpartition("-")[2])}
    assert not list((out / "trials").glob("encoders/*/model"))
    assert table["CR_after_head"].notna().tolist() == 3 * [True] + 7 * [False]
    weights = load_file(out / "encoders" / "a-seed-1" / "head.safetensors")
    assert weights["2.weight"].shape == (3, 4)
    titles = [each["title"] for each in json.loads((out / "statistics.json").read_text())["tables"]]
    assert {"Claims", "What held-out retrieval chose", "Families against their untrained twins"} <= set(titles)
    assert (out / "figures" / "claims.png").is_file()
    sweep.main(arguments)
    assert "10 of 10 encoders are done already" in capsys.readouterr().err


# ---- what is measured of held-out pairs


def test_the_information_bound_is_the_tightest_of_slow_loops_and_collapse_has_none():
    cosine = torch.from_numpy(np.random.default_rng(0).uniform(-1, 1, (7, 7)))
    bounds = [0.0]
    for temperature in np.geomspace(0.01, 3, 25):
        total = 0.0
        for i in range(7):
            scores = [math.exp(cosine[i, j].item() / temperature) for j in range(7)]
            total += math.log(scores[i] / sum(scores))
        bounds.append(math.log(7) + total / 7)
    assert information_bound(cosine) == pytest.approx(max(bounds))
    assert information_bound(torch.ones(7, 7, dtype=torch.float64)) == pytest.approx(0, abs=1e-9)
    assert information_bound(2 * torch.eye(50) - 1) == pytest.approx(math.log(50), abs=1e-6)


def test_nearest_negatives_are_those_of_sorted_rows():
    cosine = torch.from_numpy(np.random.default_rng(1).uniform(-1, 1, (14, 14)))
    rows = [sorted((cosine[i, j].item() for j in range(14) if j != i), reverse=True)[:10] for i in range(14)]
    assert nearest_negatives(cosine) == pytest.approx(np.mean(rows, axis=0))
    assert len(nearest_negatives(cosine[:3, :3])) == 2


@pytest.mark.parametrize("documents", [np.arange(60), np.arange(60) % 15, np.r_[np.zeros(59), 1], np.zeros(60), None])
def test_documents_of_few_pairs_or_one_have_no_accuracy(documents):
    pairs = HeldOutPairs([str(i) for i in range(60)], [str(i) for i in range(60)], "", documents)
    assert document_accuracy(lambda texts: np.ones((len(texts), 2)), pairs) is None


def test_documents_that_lie_apart_are_told():
    documents = np.arange(60) % 3
    pairs = HeldOutPairs([str(i) for i in range(60)], [str(i) for i in range(60)], "", documents)
    corners = np.array([[1.0, 0], [-1, 0.5], [-1, -0.5]])
    assert document_accuracy(lambda texts: 9 * corners[[int(text) % 3 for text in texts]], pairs) == 100


def test_classes_are_those_that_the_supervised_encoder_is_trained_on(book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("recipes.study.run.measure.OF_A_CLASS", 5)
    corpus = open_corpus(str(book_file))
    pairs = neighbours(corpus.split()[0], documents=CLASSES, classes=True)
    trained = {}
    for rows, number in zip(pairs.rows[:], pairs.labels, strict=True):
        trained |= dict.fromkeys(corpus.sentences(rows), int(number))
    sentences = class_sentences(corpus)
    assert np.bincount(sentences.classes).tolist() == [5] * CLASSES
    assert [trained[text] for text in sentences.texts] == sentences.classes.tolist()
    supervised = [each for each in read_study("circle").encoders if each.family == "supervised"]
    assert {each.settings["pairs"] for each in supervised} == {f"neighbours:documents={CLASSES},classes=true"}


def test_classes_that_lie_apart_are_drawn_apart():
    texts, classes = [str(i) for i in range(60)], np.arange(60) % 3
    corners = np.array([[1.0, 0], [-1, 0.5], [-1, -0.5]])
    pairs = HeldOutPairs(texts, texts, "", None)
    measured, arrays = _of_points(
        lambda texts: 9 * corners[[int(text) % 3 for text in texts]], pairs, ClassSentences(texts, classes)
    )
    assert measured == {"class_acc": 100}
    expected = corners / np.linalg.norm(corners, axis=1, keepdims=True)
    np.testing.assert_allclose(arrays["class_features"], expected[classes])
    assert arrays["classes"].tolist() == classes.tolist()


# ---- differences of families


def test_a_difference_of_single_seeds_is_a_paired_t_test():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(1, 30)), rng.normal(size=(1, 30))
    items = (a - b)[0]
    half = student.ppf(0.975, 29) * items.std(ddof=1) / math.sqrt(30)
    measured = difference(a, b)
    assert (measured.estimate, measured.low, measured.high) == pytest.approx(
        (items.mean(), items.mean() - half, items.mean() + half)
    )


@pytest.mark.parametrize("paired", [False, True])
def test_without_items_a_side_of_one_seed_leaves_no_interval(paired):
    one, three = np.array([[1.5]]), np.array([[0.5], [0.7], [0.6]])
    sides = [(one, one - 1)] if paired else [(one, one - 1), (one, three), (three, one)]
    for a, b in sides:
        measured = difference(a, b, paired=paired)
        assert (measured.low, measured.high, measured.verdict) == (-math.inf, math.inf, "cannot tell")
        assert measured.scaled(100).text(1).endswith(" [-]") and measured.scaled(100).verdict == "cannot tell"
    rows = np.random.default_rng(0).normal(size=(2, 1, 8))
    assert math.isinf(difference(*rows, groups=np.zeros(8)).high)  # one document
    assert math.isfinite(difference(*rows, groups=np.arange(8) % 2).high)


def test_a_difference_of_one_item_is_welchs_test_over_seeds():
    a, b = np.array([[1.0], [2.0], [4.0]]), np.array([[0.0], [0.5]])
    parts = [a.var(ddof=1) / 3, b.var(ddof=1) / 2]
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 2 + parts[1] ** 2 / 1)
    half = student.ppf(0.975, freedom) * math.sqrt(sum(parts))
    measured = difference(a, b)
    assert (measured.low, measured.high) == pytest.approx((a.mean() - b.mean() - half, a.mean() - b.mean() + half))


def test_a_paired_difference_of_one_item_is_a_paired_t_test_over_seeds():
    a, b = np.random.default_rng(4).normal(size=(2, 5, 1))
    expected = ttest_rel(a[:, 0], b[:, 0]).confidence_interval(COVERAGE)
    measured = difference(a, b, paired=True)
    assert (measured.low, measured.high) == pytest.approx((expected.low, expected.high))


def test_groups_of_one_item_each_are_items_and_copies_of_an_item_count_once():
    a, b = np.random.default_rng(2).normal(size=(2, 3, 20))
    assert difference(a, b, np.arange(20)) == difference(a, b)
    copied = difference(np.repeat(a, 4, axis=1), np.repeat(b, 4, axis=1), np.repeat(np.arange(20), 4))
    assert (copied.low, copied.high) == pytest.approx((difference(a, b).low, difference(a, b).high))


def test_the_verdict_is_of_the_first():
    assert [Difference(1, *ends).verdict for ends in ((0.1, 2), (-2, -0.1), (-1, 1))] == [
        "holds", "fails", "cannot tell"
    ]  # fmt: skip
    assert difference(np.ones((3, 5)), np.zeros((3, 5))) == Difference(1, 1, 1)


# On noise, the number of n intervals that hold the truth is binomial (n, 0.95), or more where intervals are wide.


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize(
    ("items", "groups", "of_seeds", "of_groups"),
    [(400, 400, 0.0, 0.0), (400, 400, 0.05, 0.0), (400, 400, 0.3, 0.0), (300, 10, 0.02, 0.3), (300, 10, 0.2, 0.1)],
)
def test_intervals_of_differences_hold_the_truth_as_often_as_they_say(items, groups, of_seeds, of_groups, paired):
    rng, held, n = np.random.default_rng(items + groups), 0, 500
    group = np.arange(items) % groups
    for _ in range(n):
        shared = rng.normal(size=items)  # what is hard for both
        effect = of_groups * rng.normal(size=groups)[group]  # a document on which the first is better
        start = 2 * paired * rng.normal(size=(3, 1))  # of the weights that a seed begins with
        a = shared + start + effect + of_seeds * rng.normal(size=(3, 1)) + rng.normal(size=(3, items))
        b = shared + start + of_seeds * rng.normal(size=(3, 1)) + rng.normal(size=(3, items))
        measured = difference(a, b, group if groups < items else None, paired)
        held += measured.low <= 0 <= measured.high
    assert held / n >= COVERAGE - 3 * math.sqrt(COVERAGE * (1 - COVERAGE) / n)
    assert held / n < 0.995  # not wider than everything


def test_families_are_compared_with_their_untrained_twin_and_with_each_other(tmp_path):
    rng = np.random.default_rng(0)
    names, families = [], []
    for family, chance in (("good", 0.9), ("bad", 0.6), ("untrained", 0.6)):
        for seed in range(3):
            names.append(f"{family}-{seed}")
            families.append(family)
            (tmp_path / "encoders" / names[-1]).mkdir(parents=True)
            ranks = chance * rng.uniform(size=100)
            right = rng.uniform(size=500) < chance
            np.savez(tmp_path / "encoders" / names[-1] / "measured.npz", T_right=right, reciprocal_ranks=ranks,
                     documents=np.arange(100) % 10)  # fmt: skip
    frame = pd.DataFrame({
        "name": names, "family": families, "status": "ok", "setting": families, "encoder": "static:dim=4", "towers": 1,
        "trained": [family != "untrained" for family in families], "lr": 0.1, "objective": "o",
        "reference": [family == "untrained" for family in families], "T_acc": 1.0, "retrieval_mrr": 0.1,
        "seed": 3 * [0.0, 1, 2],
        "seconds": 1.0, "alignment": 1.0,
    })  # fmt: skip
    frame.loc[0, "encoder"] = "static:dim=4,dropout=0.1"
    frame["STS-B_spearman"] = [50.0, 51, 52, 40, 41, 43, 40, 40, 41]
    trials = [{"name": "good-1", "retrieval_mrr": 0.25}, {"name": "good-2", "retrieval_mrr": None}]
    about = {"compare": {"good is better": ["good", "bad"], "lost is better": ["lost", "good"]},
             "choices": [{"name": "good", "family": "good", "chosen": "good-1", "trials": trials}]}  # fmt: skip
    (tmp_path / "study.json").write_text(json.dumps(about))
    tables, (sentence, not_ended), drawn = of_families(frame, ["T"], tmp_path)
    chosen, against, geometry, claims = tables
    assert chosen.lines == [["good", "2", "1", "good-1", "0.2500", "0.2500"]]
    assert [line[:2] for line in against.lines] == [["good", "3"], ["bad", "3"]]
    assert claims.lines[0][:3] == ["good is better", "good", "bad"] and "T +" in sentence and "(holds)" in sentence
    assert claims.lines[1] == ["lost is better", "lost", "good", "-", "-", "-"]
    assert not_ended == "lost is better: not compared, as lost has no finished encoders of one setting."
    verdicts = {(r["group"], r["label"], r["measure"]): (r["low"] > 0, r["high"] < 0) for r in drawn}
    assert verdicts["untrained", "good", "T"] == (True, False) == verdicts["claims", "good is better", "T"]
    assert verdicts["untrained", "bad", "T"] == (False, False)
    assert geometry.head[:3] == ["family", "rate", "objective"]
    assert differences_figure(drawn, "untrained") is not None and differences_figure(drawn, "claims") is None
    _, (of_one, _), drawn = of_families(frame.drop(index=[4, 5]), ["T"], tmp_path)
    assert "STS-B +11.00 [-] (cannot tell)" in of_one and "T +" in of_one
    assert json.loads(json.dumps(drawn, allow_nan=False)) == drawn
    assert {r["measure"] for r in drawn if r["group"] == "claims"} == {"T", "held-out MRR"}


# ---- the line over the sentences seen


def test_a_fitted_line_is_scipys():
    x, y = np.random.default_rng(0).normal(size=(2, 6))
    line, expected = fitted(x, y), linregress(x, y)
    assert (line.slope, line.intercept, line.error) == pytest.approx(
        (expected.slope, expected.intercept, expected.stderr)
    )
    design = np.stack([np.ones(6), x], axis=1)
    further = np.array([1, 3.0])
    variance = line.residual**2 * (1 + further @ np.linalg.inv(design.T @ design) @ further)
    value, low, high = line.further(3.0)
    assert value == pytest.approx(expected.intercept + 3 * expected.slope)
    assert (high - value, value - low) == pytest.approx(2 * (student.ppf(0.975, 4) * math.sqrt(variance),))


def test_intervals_of_lines_hold_the_truth_as_often_as_they_say():
    rng, held, n = np.random.default_rng(0), np.zeros(2), 1000
    x = np.log10([14e3, 43e3, 142e3, 427e3, 1423e3])
    for _ in range(n):
        line = fitted(x, 50 + 2 * x + rng.normal(size=5))
        low, high = line.slope_interval()
        _, least, most = line.further(7.7)
        held += [low <= 2 <= high, least <= 50 + 2 * 7.7 + rng.normal() <= most]
    assert held / n == pytest.approx(COVERAGE, abs=3 * math.sqrt(COVERAGE * (1 - COVERAGE) / n))


def test_a_family_with_four_numbers_of_sentences_gets_a_line(tmp_path):
    sizes = np.repeat([10.0, 100, 1000, 10000], 2)
    frame = pd.DataFrame({
        "name": [f"e{i}" for i in range(8)], "family": "f", "objective": "o", "sequences_seen": sizes,
        "T_acc": 50 + 3 * np.log10(sizes), "status": "ok",
    })  # fmt: skip
    (lines,), (sentence,) = over_sentences(frame, ["T"], tmp_path)
    assert lines.lines[0][0] == "f" and lines.lines[0][3].startswith("+3.00 [+3.00, +3.00]")
    assert sentence.startswith("f: T per tenfold sentences +3.00") and "extrapolated to 53 million: 73.17" in sentence
    assert over_sentences(frame[:6], ["T"], tmp_path) == ([], [])
    assert sentences_figure(complete(frame, ["T"]), ["T"]) is not None
    assert sentences_figure(complete(frame[:6], ["T"]), ["T"]) is None
