"""Studies: plans laid out and refused, statistics against closed forms, and a small one that is killed and goes on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from scipy.stats import kendalltau, spearmanr
from sklearn.model_selection import train_test_split

from eval import SEED, TASKS, ScoringSettings, read, score_model
from recipes import sweep
from recipes.runner import RecipeSettings
from recipes.study import StudyFolder, conclude, prepare, read_study, refuse_others, shipped
from recipes.study.analysis import correlations, statistics
from recipes.study.analysis.best import holm
from recipes.study.analysis.equal_data import at_equal_data
from recipes.study.analysis.mixture import cross_fitted, mixtures
from recipes.study.analysis.rank_correlation import draws, kendall, spearman
from recipes.study.analysis.twins import against_twins
from recipes.study.columns import described, varied
from recipes.study.conclusion import collect, write_table
from recipes.study.plan import DEFAULTS, EncoderSpec
from recipes.study.run.measure import measure_encoder
from recipes.study.run.scheduler import asked, groups, lost, stacking_key
from recipes.study.run.training import Job, train_jobs
from recipes.train_bookcorpus import main as train
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.pipeline import RunSettings, check_specs, make_model
from sentemb.runs import TRAINED_FOLDERS, discard
from sentemb.storage import write_folder
from sentemb.validation import held_out_pairs

ROOT = Path(__file__).parents[2]
RNG = np.random.default_rng(0)


# ---- plans


@pytest.mark.parametrize("name", shipped())
def test_the_studies_that_come_along_can_be_run(name):
    study = read_study(name)
    for planned in study.everything:
        settings = RecipeSettings.of(planned.settings, RunSettings())
        check_specs(settings.data, settings.encoder, settings.pairs, settings.objective)
        assert described(planned)["name"] == planned.name
    assert study.title and study.description


PAPERS = ("bookcorpus-108", "bookcorpus-108-full")


def mine_of(name: str) -> list[EncoderSpec]:
    return [planned for planned in read_study(name).encoders if not planned.reference]


def is_recurrent(planned: EncoderSpec) -> bool:
    return planned.settings["encoder"].startswith("rnn:")


@pytest.mark.parametrize("name", PAPERS)
def test_the_study_of_108_has_108_settings_and_what_the_paper_varied(name):
    mine = mine_of(name)
    rows = pd.DataFrame([described(planned) for planned in mine])
    assert len(mine) == 108 and rows["name"].nunique() == 108
    assert sum(map(is_recurrent, mine)) >= 54
    for recurrent in (False, True):
        part = rows[[is_recurrent(planned) == recurrent for planned in mine]]
        kind = ", recurrent" if recurrent else ""
        assert set(part["family"]) == {
            f"{f}{kind}" for f in ("contrastive", "align+uniform", "mixture", "unnormalised")
        }
        assert {0.05, 0.075} <= set(part["temperature"]) and {1.0, 2.0} <= set(part["alpha"])
        best = part[(part["align"] == 0.9) & (part["uniform"] == 0.1) & (part["t"] == 5) & (part["alpha"] == 2)]
        assert len(best) == 2  # the paper's best of alignment and uniformity: with one tower and with two
        assert (part.groupby("setting").size() == 3).sum() == 3  # three settings with three seeds
        assert part.groupby("encoder").size().max() >= 40  # alike but for objective and seed


def trained_with(planned: EncoderSpec) -> str:
    """All settings but the encoder and its learning rate."""
    return repr({key: value for key, value in planned.settings.items() if key not in ("encoder", "lr")})


@pytest.mark.parametrize("name", PAPERS)
def test_each_recurrent_encoder_of_108_has_an_average_at_equal_data_and_an_untrained_twin(name):
    study = read_study(name)
    averages = {trained_with(planned) for planned in mine_of(name) if not is_recurrent(planned)}
    untrained = {
        (planned.settings["encoder"], planned.settings["towers"]) for planned in study.encoders if not planned.trained
    }
    for planned in filter(is_recurrent, mine_of(name)):
        assert trained_with(planned) in averages, planned.name
        assert (planned.settings["encoder"], planned.settings["towers"]) in untrained, planned.name


def test_each_recurrent_encoder_of_108_sees_150_000_sequences():
    for planned in filter(is_recurrent, mine_of("bookcorpus-108")):
        a_batch = planned.settings["batch_size"] * (1 if planned.settings["pairs"] == "contiguous" else 2)
        assert planned.settings["max_steps"] * a_batch >= 150_000, planned.name


@pytest.mark.parametrize(("name", "hidden", "dim"), [(PAPERS[0], 32, 128), (PAPERS[1], 600, 620)])
def test_the_papers_form_is_among_the_108(name, hidden, dim):
    form = [
        planned
        for planned in mine_of(name)
        if planned.settings["towers"] == 2 and planned.settings["pairs"] == "contiguous" and is_recurrent(planned)
    ]
    gru = [planned for planned in form if f"cell=gru,hidden={hidden},pooling=final" in planned.settings["encoder"]]
    assert {planned.family.partition(",")[0] for planned in gru} >= {"contrastive", "align+uniform", "unnormalised"}
    for planned in gru:
        assert f"embeddings=random,dim={dim}" in planned.settings["encoder"]
        assert (planned.settings["batch_size"], planned.settings["schedule"], planned.settings["warmup"]) == (
            400,
            "constant",
            0,
        )


def test_every_encoder_of_108_can_be_made():
    """Each distinct spec, with a vocabulary that the built-in sample has."""
    sample = open_corpus("sample")
    train, _ = sample.split()
    made: dict[tuple[str, int], int] = {}
    for planned in read_study("bookcorpus-108").encoders:
        spec = planned.settings["encoder"].replace("vocabulary=8000", "vocabulary=300")
        if (key := (spec, planned.settings["towers"])) in made or "minilm" in spec:
            continue
        settings = RecipeSettings.of(planned.settings | {"encoder": spec}, RunSettings())
        model = make_model(settings.encoder, sample, train, settings.data.max_length, None)
        made[key] = model.get_embedding_dimension()
    assert len(made) == 5 and set(made.values()) == {128}


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPERS)
def test_every_kind_of_row_of_108_trains(name, tmp_path, book_file, monkeypatch):
    """One of each objective, kind of pairs, towers and cell, with small sizes, for two updates."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    small = [("vocabulary=8000", "vocabulary=270"), ("vocabulary=50000", "vocabulary=270")]
    small += [(f"dim={n}", "dim=8") for n in (1200, 620, 300, 128, 64)] + [
        (f"hidden={n}", "hidden=4") for n in (600, 64, 32)
    ]
    trained = set()
    for planned in mine_of(name):
        spec = planned.settings["encoder"]
        for large, little in small:
            spec = spec.replace(large, little)
        row = described(planned)
        kind = (spec, *(row[key] for key in ("objective_name", "pairs", "towers")), row["contrastive"] is None)
        if kind in trained:
            continue
        trained.add(kind)
        flags = {"encoder": spec, "max_steps": 2, "batch_size": 16, "eval_every": 0, "threads": 1, "corpus": book_file}
        flags |= {key: planned.settings[key] for key in ("objective", "pairs", "towers", "optimizer", "schedule", "lr")}
        arguments = [part for key, value in flags.items() for part in (f"--{key.replace('_', '-')}", str(value))]
        train(
            [*arguments, "--dev", "heldout", "--no-score", "--warmup", "0", "--out", str(tmp_path / str(len(trained)))]
        )
    assert len(trained) == 13


def plan(tmp_path, **content) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_a_grid_is_the_product_and_points_are_a_list(tmp_path):
    study = read_study(str(plan(
        tmp_path,
        base={"encoder": "static:embeddings=random,dim=4", "lr": "1e-2"},
        encoders=[
            {"family": "a", "objective": "infonce:temperature={tau}", "vary": {"tau": [0.1, 0.5], "seed": [0, 1]}},
            {"family": "b", "points": [{"batch_size": 8, "max_steps": 3}, {"batch_size": 16, "max_steps": 2}]},
        ],
        references=[{"family": "untrained", "trained": False}],
    )))  # fmt: skip
    names = [planned.name for planned in study.encoders]
    assert names[:3] == ["a-tau-0.1-seed-0", "a-tau-0.1-seed-1", "a-tau-0.5-seed-0"]
    assert names[4:] == ["b-batch_size-8-max_steps-3", "b-batch_size-16-max_steps-2", "untrained"]
    first, last = study.encoders[0], study.encoders[-1]
    assert first.settings == DEFAULTS | {
        "encoder": "static:embeddings=random,dim=4", "lr": 0.01, "objective": "infonce:temperature=0.1", "seed": 0,
    }  # fmt: skip
    assert first.setting == study.encoders[1].setting != study.encoders[2].setting
    assert last.reference and not last.trained


def test_a_study_has_one_language(tmp_path):
    assert read_study(str(plan(tmp_path, encoders=[{}]))).language == "en"
    study = prepare(
        read_study(str(plan(tmp_path, language="de", encoders=[{"vary": {"seed": [0, 1]}}]))), "sample", None, "MR"
    )
    assert [planned.settings["language"] for planned in study.encoders] == ["de", "de"]
    with pytest.raises(InputError, match="did you mean 'de', German"):
        read_study(str(plan(tmp_path, language="german", encoders=[{}])))
    with pytest.raises(InputError, match="unknown key of entry 1 of encoders 'language'"):
        read_study(str(plan(tmp_path, encoders=[{"language": "de"}])))


def test_the_example_of_the_guide_is_a_study(tmp_path):
    guide = (ROOT / "docs" / "sweep.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (tmp_path / "letters.yaml").write_text(text)
    study = read_study(str(tmp_path / "letters.yaml"))
    assert [planned.family for planned in study.encoders] == 6 * ["contrastive"] + 2 * ["align+uniform"] + ["untrained"]
    for planned in study.encoders:
        settings = RecipeSettings.of(planned.settings, RunSettings())
        check_specs(settings.data, settings.encoder, settings.pairs, settings.objective)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "encoders must be a list"),
        ({"encoders": []}, "one encoder at least"),
        ({"encoders": [3]}, "entry 1 of encoders must be"),
        ({"encoder": []}, "did you mean 'encoders'"),
        ({"encoders": [{"objektive": "infonce"}]}, "did you mean 'objective'"),
        ({"base": {"tasks": "MR"}, "encoders": [{}]}, "unknown key of base 'tasks'"),
        ({"encoders": [{"vary": {"tau": [1]}}]}, "varies tau, which no setting uses"),
        (
            {"encoders": [{"objective": "infonce:temperature={tau}"}]},
            "{tau} in 'infonce:",
        ),
        ({"encoders": [{"vary": {"seed": []}}]}, "names with lists of values"),
        ({"encoders": [{"vary": {"seed": [1]}, "points": [{"seed": 2}]}]}, "both vary and points"),
        ({"encoders": [{"points": [{}]}]}, "points of entry 1"),
        ({"encoders": [{"lr": "fast"}]}, "lr of entry 1 of encoders is a number, got 'fast'"),
        ({"encoders": [{"seed": 0.5}]}, "seed of entry 1 of encoders is a whole number"),
        ({"encoders": [{"max_steps": "x"}]}, "max_steps of entry 1 of encoders is a whole number"),
        ({"encoders": [{"compile": 1}]}, "compile of entry 1 of encoders is true or false"),
        ({"encoders": [{}, {}]}, "two encoders have the name encoder"),
        ({"encoders": [{}, {"name": "b"}]}, "encoder and b have the same settings"),
        ({"name": "a/b", "encoders": [{}]}, "becomes a folder"),
        ({"keep": "some", "encoders": [{}]}, "unknown keep 'some'"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_in_a_sentence(tmp_path, content, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        sweep.main(["--study", str(plan(tmp_path, **content)), "--out", str(tmp_path / "out")])
    printed = capsys.readouterr().err
    assert stopped.value.code == 2 and message in printed and printed.count("\n") == 1 and "mine.yaml" in printed
    assert not (tmp_path / "out").exists()


def test_other_input_that_cannot_be_used_is_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    wrong = plan(tmp_path, encoders=[{"family": "x", "objective": "infonce:temperature=-1"}])
    (tmp_path / "text").write_text("no study")
    (tmp_path / "broken.yaml").write_text("{")
    for arguments, message in [
        (["--study", "bookcorpus"], "did you mean 'bookcorpus-108'"),
        (["--study", "x.yaml"], "x.yaml is not a file"),
        (["--study", str(tmp_path / "broken.yaml")], "cannot be read as YAML"),
        (["--study", "circle", "--jobs", "0"], "--jobs must be at least 1"),
        (["--study", "circle", "--folds", "1"], "--folds must be at least 2"),
        (["--study", "circle", "--out", str(tmp_path)], "not the folder of a study"),
        (["--study", "circle", "--out", str(tmp_path / "new"), "--page"], "holds no study yet"),
        (["--study", str(wrong), "--out", str(tmp_path / "new")], "encoder x: objective"),
        (["--study", str(wrong), "--dry-run"], "encoder x: objective"),
        (["--study", "circle", "--data", str(tmp_path), "--out", str(tmp_path / "new")], "has no folder downstream/"),
        (["--study", "circle", "--data", str(tmp_path), "--dry-run"], "has no folder downstream/"),
        (["--study", "circle", "--corpus", str(tmp_path / "books"), "--dry-run"], "no file or folder has that path"),
    ]:
        with pytest.raises(SystemExit) as stopped:
            sweep.main(arguments)
        printed = capsys.readouterr().err
        assert stopped.value.code == 2 and message in printed and printed.count("\n") == 1, printed
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        ("infonce:temperature=0.2", {"temperature": 0.2, "contrastive": 1.0, "align": None, "uniform": None}),
        ("align_uniform:align=0.9,weight=0.1,t=5",
         {"temperature": None, "contrastive": None, "align": 0.9, "uniform": 0.1, "t": 5.0, "alpha": 2.0}),
        ("mix:contrastive=0,align=1,uniform=0.5", {"temperature": None, "contrastive": None, "align": 1.0}),
        ("mix:contrastive=2", {"temperature": 0.05, "contrastive": 2.0, "align": None, "uniform": None, "alpha": None}),
        ("simple", {"temperature": None, "contrastive": 1.0}),
        ("infonce:temperature=0.1*2 + distill", {"objective_name": "infonce + distill", "temperature": None,
                                                 "contrastive": None, "align": None}),
    ],
)  # fmt: skip
def test_a_row_says_what_its_objective_weighs(tmp_path, objective, expected):
    (planned,) = read_study(str(plan(tmp_path, encoders=[{"objective": objective}]))).encoders
    row = described(planned)
    assert {key: row[key] for key in expected} == expected


def test_the_table_has_a_column_for_each_setting_that_differs(tmp_path):
    study = read_study(str(plan(
        tmp_path,
        base={"lr": "1e-2"},
        encoders=[
            {"family": "a", "objective": "infonce:temperature={tau}", "encoder": "static:embeddings=random,dim={steps}",
             "vary": {"tau": ["5e-2", 0.5], "steps": [8, 16]}},
            {"family": "b", "points": [{"weight_decay": 0.1, "max_steps": 3}, {"select": "best"}]},
            {"family": "c", "objective": "align_uniform:t={t},alpha={a}", "points": [{"t": 3, "a": 1}]},
        ],
    )))  # fmt: skip
    place = StudyFolder(tmp_path / "out")
    place.out.joinpath("planned").mkdir(parents=True)
    (place.out / "study.json").write_text(json.dumps({"encoders": [planned.name for planned in study.encoders]}))
    for planned, differing in zip(study.encoders, varied(study.encoders), strict=True):
        content = {"described": described(planned), "varied": differing}
        place.planned(planned).write_text(json.dumps(content))
        place.run(planned).mkdir(parents=True)
        (place.run(planned) / "row.json").write_text(json.dumps({"status": "failed", "reason": "", "steps": 60}))
    rows = write_table(place.out)
    assert rows.columns.is_unique and not {"lr_varied", "t_varied", "epochs", "warmup"} & set(rows)
    nothing = float("nan")
    expected = {
        "tau": [0.05, 0.05, 0.5, 0.5, *3 * [nothing]],
        "steps": 7 * [60.0],
        "steps_varied": [8.0, 16.0, 8.0, 16.0, *3 * [nothing]],
        "weight_decay": [*4 * [0.0], 0.1, 0.0, 0.0],
        "max_steps": [*4 * [nothing], 3.0, nothing, nothing],
        "t": [*6 * [nothing], 3.0],
        "a": [*6 * [nothing], 1.0],
    }
    for read_back in (pd.read_csv(place.out / "results.csv"), pd.read_parquet(place.out / "results.parquet")):
        pd.testing.assert_frame_equal(read_back[list(expected)], pd.DataFrame(expected))
        assert read_back["select"].tolist()[-3:] == ["last", "best", "last"]


@pytest.mark.parametrize(
    ("pairs", "sequences"), [("neighbours", 120), ("contiguous", 60), ("neighbours:both=true", 120)]
)
def test_a_row_says_how_many_sequences_were_seen(tmp_path, pairs, sequences):
    (planned,) = read_study(str(plan(tmp_path, encoders=[{"pairs": pairs}]))).encoders
    place = StudyFolder(tmp_path / "out")
    place.run(planned).mkdir(parents=True)
    place.planned(planned).parent.mkdir()
    (place.out / "study.json").write_text(json.dumps({"encoders": [planned.name]}))
    place.planned(planned).write_text(json.dumps({"described": described(planned)}))
    (place.run(planned) / "row.json").write_text(json.dumps({"status": "failed", "reason": "", "pairs_seen": 60}))
    assert write_table(place.out)["sequences_seen"].tolist() == [sequences]
    assert pd.read_csv(place.out / "results.csv")["sequences_seen"].tolist() == [sequences]


# ---- statistics


def test_rank_correlations_are_scipys():
    x, y = RNG.integers(0, 8, 30).astype(float), RNG.normal(size=30)
    assert spearman(x, y)[0] == pytest.approx(spearmanr(x, y).statistic)
    assert kendall(x, y)[0] == pytest.approx(kendalltau(x, y).statistic)
    assert np.isnan(spearman(np.ones(5), np.arange(5.0))[0]) and np.isnan(kendall(np.ones(5), np.arange(5.0))[0])


def test_a_resample_has_the_correlation_of_its_repeated_rows():
    x, y = RNG.integers(0, 8, 12).astype(float), RNG.integers(0, 9, 12).astype(float)
    times = draws(12, 50)
    repeated = [np.repeat(np.arange(12), row.astype(int)) for row in times]
    assert spearman(x, y, times) == pytest.approx([spearmanr(x[i], y[i]).statistic for i in repeated])
    assert kendall(x, y, times) == pytest.approx([kendalltau(x[i], y[i]).statistic for i in repeated])


def test_the_best_mixture_is_the_one_that_was_planted():
    a, u = RNG.normal(size=60), RNG.normal(size=60) * 5
    accuracy = -(0.3 * a / a.std() + 0.7 * u / u.std())
    mixed = cross_fitted(accuracy, a, u)
    assert mixed.high < -0.95 and (mixed.estimate, mixed.low) == pytest.approx((-1, -1), abs=0.01)
    assert len(mixed.weights) == 2 * 20 and np.median(mixed.weights) == pytest.approx(0.3)
    for accuracy, weight in ((-a, 1), (-u, 0)):
        assert np.abs(cross_fitted(accuracy, a, u).weights - weight).max() <= 0.05


def test_the_mixtures_estimate_is_the_mean_over_halves_that_did_not_choose():
    """A slow loop with scipy, on the same splits."""
    accuracy, a, u = RNG.normal(size=(3, 13))
    rng, estimates = np.random.default_rng(0), []
    for _ in range(3):
        order = rng.permutation(13)
        for chooser, tester in ((order[:6], order[6:]), (order[6:], order[:6])):
            mixed = mixtures(a, u)
            chosen = min(mixed, key=lambda values, of=chooser: round(spearmanr(values[of], accuracy[of]).statistic, 9))
            estimates.append(spearmanr(chosen[tester], accuracy[tester]).statistic)
    assert cross_fitted(accuracy, a, u, splits=3).estimate == pytest.approx(np.mean(estimates))


@pytest.mark.parametrize(("accuracy", "alignment"), [(1.0, None), (None, 1.0)])
def test_a_mixture_of_constant_values_is_no_error(accuracy, alignment):
    values = RNG.normal(size=(3, 12))
    y = values[0] if accuracy is None else np.full(12, accuracy)
    mixed = cross_fitted(y, values[1] if alignment is None else np.full(12, alignment), values[2])
    assert np.isnan(mixed.estimate) if accuracy else mixed.low <= mixed.estimate <= mixed.high


def test_an_interval_holds_what_it_should_and_is_the_same_twice():
    x = RNG.normal(size=100)
    y = x + RNG.normal(size=100)
    interval = correlations.interval(spearman, x, y)
    assert interval == correlations.interval(spearman, x, y)
    assert interval[1] < interval[0] < interval[2] and interval[1] > 0 and interval[2] - interval[1] < 0.4
    lost = correlations.interval(spearman, RNG.normal(size=40), RNG.normal(size=40))
    assert lost[1] < 0 < lost[2]


def simulated_study(settings: int, seeds: int, effect: float, rng: np.random.Generator) -> list[np.ndarray]:
    """Accuracy, alignment and uniformity of a study, a value a setting; ``effect``: correlation with their sum."""
    alignment = rng.normal(size=settings)
    uniformity = -0.8 * alignment + 0.6 * rng.normal(size=settings)
    accuracy = -effect * (alignment + uniformity) / np.sqrt(0.4) + np.sqrt(1 - effect**2) * rng.normal(size=settings)
    columns = {"T_acc": accuracy, "alignment": alignment, "uniformity": uniformity}
    encoders = pd.DataFrame(columns).loc[np.repeat(np.arange(settings), seeds)] + 0.3 * rng.normal(
        size=(settings * seeds, 3)
    )
    encoders["setting"] = np.repeat([f"s{i}" for i in range(settings)], seeds)
    return list(correlations.by_setting(encoders.sample(frac=1, random_state=0), list(columns)).to_numpy().T)


def share_without_zero(studies: int, settings: int, seeds: int, effect: float = 0.0) -> float:
    rng = np.random.default_rng(settings + seeds)
    drawn = [cross_fitted(*simulated_study(settings, seeds, effect, rng), 4, 199, 40) for _ in range(studies)]
    return float(np.mean([mixed.low > 0 or mixed.high < 0 for mixed in drawn]))


# On noise, the number of n studies whose interval excludes 0 is binomial (n, 0.05): the standard deviation of its share
# is sqrt(0.05 * 0.95 / n).


@pytest.mark.parametrize(("settings", "seeds"), [(16, 3), (54, 2), (84, 1)])
def test_the_interval_of_the_mixture_excludes_zero_on_noise_no_more_often_than_it_says(settings, seeds):
    assert share_without_zero(60, settings, seeds) <= 0.05 + 4 * np.sqrt(0.05 * 0.95 / 60)


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "seeds"), [(16, 3), (36, 3), (54, 2), (84, 1)])
def test_the_interval_of_the_mixture_excludes_zero_in_5_percent_of_1000_studies_of_noise(settings, seeds):
    tolerance = 2.58 * np.sqrt(0.05 * 0.95 / 1000)  # 0.018: 99 % of such tests
    assert share_without_zero(1000, settings, seeds) == pytest.approx(0.05, abs=tolerance)


@pytest.mark.parametrize(
    ("settings", "seeds", "effect", "least"), [(16, 3, 0.9, 0.75), (54, 2, 0.6, 0.8), (84, 1, 0.6, 0.9)]
)
def test_a_mixture_that_explains_accuracy_is_seen(settings, seeds, effect, least):
    assert share_without_zero(40, settings, seeds, effect) >= least


def test_repeats_of_a_setting_are_one_value(tmp_path):
    """Ten repeats of one setting neither move a correlation nor narrow its interval."""
    x, y, z = RNG.normal(size=(3, 12))
    setting = [f"s{i}" for i in range(12)]
    once = table(T_acc=x, alignment=y, uniformity=z, setting=setting)
    again = pd.concat([once, once[:1].loc[[0] * 10]])
    rows = [correlations.correlations(frame, ["T"], tmp_path)[0][0].lines for frame in (once, again)]
    assert [[*row[:3], *row[4:]] for row in rows[0]] == [[*row[:3], *row[4:]] for row in rows[1]]
    assert [row[2:4] for row in rows[1]] == 3 * [["12", "22"]]


def test_holms_correction_on_a_known_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9]) == [0.9] and holm([0.6, 0.7]) == [1, 1]


def table(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    base = {"name": [f"e{i}" for i in range(n)], "family": "f", "status": "ok", "reference": False, "encoder": "e",
            "objective": "o", "objective_name": "o", "pairs": "p", "setting": [f"s{i}" for i in range(n)],
            "dimension": 4.0, "alignment": np.linspace(1, 2, n), "uniformity": np.linspace(-3, -2, n),
            "contrastive": np.nan, "align": np.nan, "uniform": np.nan, "temperature": np.nan, "seed": 0.0}  # fmt: skip
    scores = {"T_cv": columns["T_acc"], "T_test": columns["T_acc"]}
    return pd.DataFrame(base | scores | columns)


def statements(frame: pd.DataFrame, tmp_path) -> str:
    return " ".join(statistics(frame, ["T"], tmp_path)["said"])


def test_an_inverted_u_is_told_from_a_slope(tmp_path):
    ratios = [0.1, 0.3, 0.5, 0.7, 0.9]
    weights = {"align": ratios, "uniform": [1 - r for r in ratios], "alpha": 2.0, "t": 2.0}
    assert "not at an end, in 1 of 1 curves" in statements(table(**weights, T_acc=[1.0, 2, 3, 2, 1]), tmp_path)
    assert "not at an end, in 0 of 1 curves" in statements(table(**weights, T_acc=[1.0, 2, 3, 4, 5]), tmp_path)


@pytest.mark.parametrize(
    ("values", "verdict"),
    [
        ([-3.0, -2.5, -2.0, -1.5], "uniformity over the temperature rises at every step"),
        ([-3.0, -2.5, -2.8, -1.5], "uniformity over the temperature does not rise from 0.2 to 0.3"),
        ([-3.0, -2.5, -2.5005, -1.5], "rises within the seeds' error (it is level or falls by less than twice the"),
    ],
)  # fmt: skip
def test_what_follows_the_temperature_is_told_against_the_seeds_error(tmp_path, values, verdict):
    temperature = np.repeat([0.1, 0.2, 0.3, 0.4], 3)
    noise = np.tile([-0.001, 0, 0.001], 4)
    frame = table(temperature=temperature, seed=np.tile([0.0, 1, 2], 4), uniformity=np.repeat(values, 3) + noise,
                  T_tolerance=temperature, T_acc=temperature, setting=np.repeat(list("abcd"), 3))  # fmt: skip
    assert verdict in statements(frame, tmp_path)
    assert "standard deviation is 0.00 points of T (pooled)" in statements(frame, tmp_path)


def test_two_kinds_of_encoders_are_two_groups(tmp_path):
    """Opposite correlations in either kind, which the statistics of one architecture must not mix."""
    x = np.linspace(1, 2, 10)
    frame = pd.concat(
        [
            table(T_acc=sign * x, alignment=x, encoder=encoder, name=[f"{encoder[:2]}{i}" for i in range(10)])
            for encoder, sign in (("static:dim=4", 1), ("rnn:hidden=2", -1))
        ],
        ignore_index=True,
    )
    text = statements(frame, tmp_path)
    for kind, sign in (("averages", "+"), ("recurrent", "-")):
        counted = f"10 settings of 10 encoders (one architecture, {kind})"
        assert f"T accuracy and the alignment loss, {counted}: Spearman {sign}1.00" in text
    alone = statements(frame[:10], tmp_path)
    assert "(one architecture" not in alone and "(all): Spearman +1.00" in alone


def test_architectures_are_compared_at_the_same_objective_and_seed(tmp_path):
    same = {"towers": 1, "head": None, "batch_size": 8, "steps": 5.0}
    objectives = [f"o{i}" for i in range(8)]
    a = table(T_acc=np.arange(8.0), encoder="static", objective=objectives, retrieval_mrr=0.1).assign(**same)
    b = table(T_acc=np.arange(8.0) + 3, encoder="rnn", objective=objectives, retrieval_mrr=0.3).assign(**same)
    more_steps = b.assign(T_acc=50.0, steps=9.0, encoder="rnn:layers=2")
    (differences,), (sentence,) = at_equal_data(pd.concat([a, b, more_steps], ignore_index=True), ["T"], tmp_path)
    assert [line[2:4] + line[-1:] for line in differences.lines] == [
        ["T", "8", "+3.00 [+3.00, +3.00]"],
        ["held-out MRR", "8", "+0.2000 [+0.2000, +0.2000]"],
    ]
    assert sentence.startswith("rnn less static, at equal data and over 8 objectives in common: T +3.00")
    assert at_equal_data(pd.concat([a, b[:7]], ignore_index=True), ["T"], tmp_path) == ([], [])


@pytest.mark.parametrize(
    ("trained", "verdict"), [(np.ones(400), "+50.00 [+4"), (np.tile([0.0, 1], 200), "+0.00 [+0.00, +0.00]")]
)
def test_the_best_is_compared_with_its_untrained_twin_on_the_test_rows(tmp_path, trained, verdict):
    """No corpus and no model: what is left is the comparison of test rows, and nothing is said of retrieval."""
    frame = table(T_acc=[1.0, 2, 3], encoder=["rnn:a", "rnn:b", "rnn:b"], reference=[False, False, True]).assign(
        towers=1, head="none", trained=[True, True, False]
    )
    for name, right in (("e1", trained), ("e2", np.tile([0.0, 1], 200))):
        (tmp_path / "encoders" / name).mkdir(parents=True)
        np.savez(tmp_path / "encoders" / name / "measured.npz", T_test_right=right.astype(bool))
    (compared,), (sentence,) = against_twins(frame, ["T"], tmp_path)
    assert compared.lines[0][:4] == ["T", "f", "e1", "T"] and compared.lines[0][4].startswith(verdict)
    assert sentence.startswith("The best of recurrent by cross-validation on T, e1, against its untrained twin e2: T ")
    assert against_twins(frame.assign(trained=True), ["T"], tmp_path) == ([], [])


def test_diverged_and_reference_rows_are_told_and_left_out(tmp_path):
    accuracy = np.linspace(60, 70, 12)
    frame = table(T_acc=accuracy, T_cv=accuracy, T_test=accuracy, reason="").astype({"reason": object})
    frame.loc[3, ["status", "reason"]] = "diverged", "the loss is nan"
    frame.loc[11, "reference"] = True
    text = statements(frame, tmp_path)
    assert "11 encoders: 10 ok, 1 diverged." in text and "e3 diverged: the loss is nan." in text
    assert "T accuracy and the alignment loss, 10 settings of 10 encoders (all): Spearman +1.00" in text


# ---- a small study, end to end


SMALL = "static:embeddings=random,dim=4,vocabulary=270"


@pytest.fixture
def small(tmp_path, book_file) -> Path:
    return plan(
        tmp_path,
        name="small",
        title="A small study",
        corpus=str(book_file),
        tasks="CR",
        base={"encoder": SMALL, "max_steps": 4, "warmup": 1, "batch_size": 16, "eval_every": 2, "lr": 0.01,
              "dev": "heldout", "save_every": 0},
        encoders=[
            {"family": "contrastive", "objective": "infonce:temperature={tau}", "vary": {"tau": [0.1, 0.5]}},
            {"family": "align+uniform", "objective": "align_uniform"},
            {"family": "unnormalised", "objective": "infonce:score=dot", "lr": 1e30},
            {"family": "supervised", "objective": "cross_entropy:classes=5", "encoder": SMALL + ",out=2",
             "pairs": "neighbours:documents=5,classes=true"},
        ],
        references=[{"family": "untrained", "trained": False}],
    )  # fmt: skip


def children_of(process: int) -> list[int]:
    """All processes below one."""
    children = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == process:
            children += [int(status.parent.name), *children_of(int(status.parent.name))]
    return children


def kill_after_a_row(command: list[str], environment: dict[str, str], out: Path, printed: Path) -> None:
    """Start a study, and SIGKILL it once it has written a row; none of its processes may outlive it."""
    with printed.open("w") as log:
        running = subprocess.Popen([*command, "--jobs", "1"], env=environment, stderr=log, stdout=log)
    deadline = time.monotonic() + 240
    while not rows_of(out) and running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = children_of(running.pid)
    running.send_signal(signal.SIGKILL)
    running.wait()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers and not any(Path(f"/proc/{worker}").exists() for worker in workers), "its processes live on"


def rows_of(out: Path) -> list[Path]:
    return sorted(out.glob("encoders/*/row.json"))


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_a_killed_study_goes_on_with_nothing_run_twice(small, data, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    out, printed = tmp_path / "out", tmp_path / "printed.txt"
    arguments = ["--study", str(small), "--data", str(data), "--out", str(out), "--folds", "2"]
    command = [sys.executable, str(ROOT / "recipes" / "sweep.py"), *arguments]
    environment = os.environ | {"ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT)}
    kill_after_a_row(command, environment, out, printed)
    first = {path: (path.stat().st_mtime_ns, path.read_text()) for path in rows_of(out)}
    assert 0 < len(first) < 6, printed.read_text()

    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert f"{len(first)} of 6 encoders are done already" in done.stderr and len(rows_of(out)) == 6
    assert all((path.stat().st_mtime_ns, path.read_text()) == before for path, before in first.items())
    results = pd.read_parquet(out / "results.parquet")
    check_results(out, results)
    check_alone_is_the_same(out, results, tmp_path / "alone", monkeypatch)
    check_repeated(small, out, arguments, capsys)


def check_results(out: Path, results: pd.DataFrame) -> None:
    assert list(results["name"]) == list(pd.read_csv(out / "results.csv")["name"])
    assert list(results["status"]) == ["ok", "ok", "ok", "diverged", "ok", "ok"]
    assert "the loss is" in results["reason"][3] and np.isnan(results["CR_acc"][3])
    finished = results[results["status"] == "ok"]
    measures = ["CR_acc", "CR_cv", "CR_test", "CR_tolerance", "alignment", "uniformity", "potential"]
    assert np.isfinite(finished[measures]).all(axis=None)
    assert (results["dimension"].dropna() == [4, 4, 4, 2, 4]).all()
    assert (out / "study.html").is_file() and list(out.glob("figures/*.png"))
    assert "5 encoders: 4 ok, 1 diverged." in json.loads((out / "statistics.json").read_text())["said"][0]
    card = (out / "encoders" / "contrastive-tau-0.1" / "model" / "README.md").read_text()
    assert f"| CR, accuracy x 100 | {results['CR_acc'][0]:.2f} |" in card and card.startswith("---\n")
    assert load(out / "encoders" / "supervised" / "model").encode("hello").shape == (2,)


def check_alone_is_the_same(out: Path, results: pd.DataFrame, alone: Path, monkeypatch) -> None:
    """Each encoder is what the recipe alone makes of its settings."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    begun_with = json.loads((out / "planned" / "align+uniform.json").read_text())["asked"]
    train(["--corpus", begun_with["corpus"], "--encoder", SMALL, "--objective", "align_uniform", "--max-steps", "4",
           "--warmup", "1", "--batch-size", "16", "--lr", "0.01", "--dev", "heldout", "--no-score", "--threads", "1",
           "--out", str(alone)])  # fmt: skip
    last = json.loads((alone / "log.jsonl").read_text().splitlines()[-1])
    assert last["loss"] == pytest.approx(results["loss"][2], abs=1e-6)
    assert last["heldout_alignment"] == pytest.approx(results["alignment"][2], abs=1e-5)


def check_repeated(study: Path, out: Path, arguments: list[str], capsys) -> None:
    """Again there is nothing to do; a failed encoder is tried once more; other settings are refused."""
    capsys.readouterr()
    times = [path.stat().st_mtime_ns for path in rows_of(out)]
    sweep.main(arguments)
    printed = capsys.readouterr()
    assert "6 of 6 encoders are done already" in printed.err and "The best of each family" in printed.out
    assert times == [path.stat().st_mtime_ns for path in rows_of(out)]
    content = yaml.safe_load(study.read_text())
    content["base"]["lr"] = 0.02
    study.write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit):
        sweep.main(arguments)
    assert "was started with lr 0.01, and now it is 0.02" in capsys.readouterr().err
    (out / "encoders" / "contrastive-tau-0.5" / "row.json").unlink()
    conclude(out)
    assert len(collect(out)) == 5


def test_what_is_measured_of_an_encoder(encoder, data, book_file, tmp_path, monkeypatch):

    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    model, pairs = (
        encoder("static:embeddings=random,dim=5,vocabulary=270,out=3"),
        held_out_pairs(open_corpus(str(book_file))),
    )
    task = read(TASKS["CR"], data)
    row, arrays, protocols = measure_encoder(model, [task], pairs, folds=2)
    scores = score_model(model, [task], pairs, settings=ScoringSettings(folds=2))
    assert row["CR_acc"] == scores["tasks"]["CR"]["acc"] and protocols["CR"] == scores["tasks"]["CR"]["protocol"]
    assert row["CR_tolerance"] == pytest.approx(scores["geometry"]["tolerance"]["CR"], abs=1e-6)
    assert row["alignment"] == scores["geometry"]["alignment"] and row["potential"] == np.exp(row["uniformity"])
    texts = list(dict.fromkeys(pairs.first + pairs.second))
    assert arrays["features"].shape == (len(texts), 3)
    np.testing.assert_allclose(np.linalg.norm(arrays["features"], axis=1), 1, atol=1e-6)
    assert np.square(arrays["singular_values"]).sum() == pytest.approx(len(texts), rel=1e-5)
    y = task.parts["all"].gold
    rest = train_test_split(np.arange(len(y)), test_size=0.2, random_state=SEED, stratify=y)[1]
    assert len(arrays["CR_test_right"]) == len(rest)
    assert row["CR_test"] == pytest.approx(100 * arrays["CR_test_right"].mean(), abs=0.01)
    for name in ("positives", "negatives", "hardest_negatives"):
        assert arrays[name].sum() == pytest.approx(1)
    middle = (arrays["edges"][1:] + arrays["edges"][:-1]) / 2
    assert middle @ arrays["hardest_negatives"] > middle @ arrays["negatives"]


def test_a_process_that_dies_is_a_failed_row_with_its_reason(tmp_path):
    (planned,) = read_study(str(plan(tmp_path, encoders=[{}]))).encoders
    row = lost(StudyFolder(tmp_path), planned, -9)
    assert row["status"] == "failed" and "SIGKILL, for want of memory mostly" in row["reason"]
    assert StudyFolder(tmp_path).row(planned) == row


def test_a_study_that_an_earlier_version_began_goes_on(tmp_path, monkeypatch):
    """Settings that it had not are at their defaults, and those that decide nothing are not compared."""
    (tmp_path / "a.csv").write_text("text\nOne.\n")
    monkeypatch.chdir(tmp_path)
    study = read_study(str(plan(tmp_path, encoders=[{}])))
    (planned,), place = study.encoders, StudyFolder(tmp_path / "out")
    planned = replace(planned, settings=planned.settings | {"corpus": f"table:path={tmp_path}/a.csv"})
    study = replace(study, encoders=[planned])
    place.run(planned).mkdir(parents=True)
    place.planned(planned).parent.mkdir()
    before = asked(planned) | {"timeout": 3.0, "corpus": "table:path=a.csv"}
    for name in ("weight_decay", "prompts"):
        del before[name]
    place.planned(planned).write_text(json.dumps({"asked": before}))
    refuse_others(place, study)
    place.planned(planned).write_text(json.dumps({"asked": before | {"weight_decay": 0.1}}))
    with pytest.raises(InputError, match="was started with weight_decay 0.1, and now it is 0.0"):
        refuse_others(place, study)


def test_what_a_run_has_not_written_stays_where_a_study_clears_up(tmp_path):
    for name in ("best", "last", "checkpoints/step-1", "checkpoints/damaged-step-2"):
        write_folder(tmp_path / name, lambda partial: (partial / "weights").write_text("1"))
    for name in ("last/mine", "checkpoints/notes.txt"):
        (tmp_path / name).write_text("mine")
    discard(tmp_path, TRAINED_FOLDERS)
    discard(tmp_path, ["model"])  # not there
    left = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert left == ["checkpoints/notes.txt", "last/manifest.json", "last/mine", "last/weights"]


# ---- encoders that are trained together


def sizes(study: Path, jobs: int, most: int) -> list[int]:
    return [len(group) for group in groups(read_study(str(study)).encoders, jobs, most)]


def test_encoders_that_are_alike_share_processes_and_every_job_has_something_to_do(tmp_path):
    temperatures = {"vary": {"tau": [i / 100 for i in range(1, 24)]}, "objective": "infonce:temperature={tau}"}
    study = plan(tmp_path, base={"encoder": SMALL}, encoders=[temperatures], references=[{"trained": False}])
    assert sizes(study, 2, 16) == [12, 11, 1]
    assert sizes(study, 1, 16) == [12, 11, 1]
    assert sizes(study, 2, 6) == [6, 6, 6, 5, 1]
    assert sizes(study, 2, 1) == 24 * [1]
    assert sizes(study, 8, 16) == [5, 4, 4, 3, 3, 2, 2, 1]
    few = plan(tmp_path, base={"encoder": SMALL}, encoders=[{"vary": {"lr": [0.1, 0.2, 0.3]}}])
    assert sizes(few, 1, 16) == [3] and sizes(few, 2, 16) == [2, 1] and sizes(few, 8, 16) == [1, 1, 1]


def test_a_group_has_every_encoder_once_and_only_such_as_are_alike(tmp_path):
    planned = read_study("bookcorpus-108").encoders
    parts = groups(planned, 2, 16)
    assert sorted(each.name for part in parts for each in part) == sorted(each.name for each in planned)
    assert max(map(len, parts)) <= 16 and min(map(len, parts)) >= 1
    for part in parts:
        for name in ("encoder", "pairs", "batch_size", "max_steps", "seed", "towers", "max_length", "precision"):
            assert len({each.settings[name] for each in part}) == 1
    assert parts[0][0].settings["encoder"].startswith("rnn")  # which takes longest
    alone = {"encoder": "transformer"}, {"encoder": SMALL + ",dropout=0.1"}, {"micro_batch": 8}, {"trained": False}
    for entry in ({"encoder": SMALL}, *alone):
        (encoder,) = read_study(str(plan(tmp_path, encoders=[entry]))).encoders
        assert (stacking_key(encoder) == "") == (entry in alone)


NOT_MEASURES = ("seconds", "training_seconds")


@pytest.mark.slow
def test_a_study_of_stacked_encoders_has_the_rows_of_one_by_one(tmp_path, book_file, data, monkeypatch):
    """Computed in float32: to 1e-4."""
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    gru = "rnn:cell=gru,hidden=4,embeddings=random,dim=4,vocabulary=270"
    shared = {"max_steps": 6, "warmup": 1, "batch_size": 16, "eval_every": 2, "lr": 0.01, "dev": "heldout"}
    varied_objectives = {"objective": "infonce:temperature={tau}", "vary": {"tau": [0.1, 0.3, 0.5]}}
    study = plan(
        tmp_path, name="both", corpus=str(book_file), tasks="CR", base=shared | {"save_every": 0},
        encoders=[
            {"family": "static", "encoder": SMALL, **varied_objectives},
            {"family": "gru", "encoder": gru, **varied_objectives},
            {"family": "gru-au", "encoder": gru, "objective": "align_uniform", "lr": 0.003, "select": "best"},
        ],
    )  # fmt: skip
    rows = {}
    for stack in (1, 8):
        out = tmp_path / f"stack-{stack}"
        sweep.main(["--study", str(study), "--data", str(data), "--out", str(out), "--folds", "2", "--jobs", "1",
                    "--stack", str(stack)])  # fmt: skip
        rows[stack] = {path.parent.name: json.loads(path.read_text()) for path in rows_of(out)}
        stacked = [json.loads(log.read_text().splitlines()[0]).get("stacked", 1) for log in out.rglob("log.jsonl")]
        assert sorted(stacked) == ([1] * 7 if stack == 1 else [3] * 3 + [4] * 4)
    assert set(rows[1]) == set(rows[8]) and len(rows[1]) == 7
    for name, expected in rows[1].items():
        assert set(rows[8][name]) == set(expected)
        for key, value in expected.items():
            if key not in NOT_MEASURES:
                tolerance = pytest.approx(value, rel=1e-4, abs=1e-5) if isinstance(value, float) else value
                assert rows[8][name][key] == tolerance, (name, key)
    assert (tmp_path / "stack-8" / "logs" / "gru-tau-0.5.txt").read_text().count("run folder:") == 1


def test_a_killed_group_goes_on_from_its_checkpoints_together_where_these_are_of_one_step(
    tmp_path, book_file, monkeypatch
):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    settings = {"encoder": SMALL, "max_steps": 6, "save_every": 2, "batch_size": 16, "eval_every": 0, "lr": 0.01}
    study = plan(tmp_path, base=settings | {"keep": 0, "dev": "heldout"}, encoders=[{"vary": {"lr": [0.1, 0.2, 0.3]}}])
    encoders = prepare(read_study(str(study)), str(book_file), None, "CR").encoders
    corpus = open_corpus(str(book_file))

    def run(name: str) -> list[Path]:
        folders = [tmp_path / name / each.name for each in encoders]
        with (tmp_path / "log.txt").open("a") as log:
            jobs = [Job(each, folder, log) for each, folder in zip(encoders, folders, strict=True)]
            assert not train_jobs(jobs, corpus, 1)
            assert [job.row for job in jobs] == [None] * 3
        return folders

    straight, cut = run("straight"), run("cut")
    for folder, lost_steps in zip(cut, ((6,), (4, 6), (2, 4, 6)), strict=True):  # killed at 4 and 2, and before 2
        shutil.rmtree(folder / "model")
        for step in lost_steps:
            shutil.rmtree(folder / "checkpoints" / f"step-{step}")
    assert run("cut") == cut
    for folder, expected in zip(cut, straight, strict=True):
        weights = [load(each / "model").state_dict() for each in (folder, expected)]
        assert all(torch.equal(weights[0][name], value) for name, value in weights[1].items())
        (before,) = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()][-1:]
        assert before["step"] == 6
    assert (tmp_path / "log.txt").read_text().count("run folder:") == 9


def test_what_goes_wrong_for_a_whole_group_fails_its_encoders_and_no_other(tmp_path, book_file, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    settings = {"encoder": SMALL, "max_steps": 2, "save_every": 0, "batch_size": 16, "eval_every": 0, "dev": "heldout"}
    study = plan(tmp_path, base=settings, encoders=[{"vary": {"lr": [0.1, 0.2]}}, {"name": "alone", "seed": 1}])
    encoders = prepare(read_study(str(study)), str(book_file), None, "CR").encoders

    def broken(*arguments):
        raise RuntimeError("DataLoader worker is gone")

    monkeypatch.setattr("recipes.study.run.training.fit_stacked", broken)
    with (tmp_path / "log.txt").open("a") as log:
        jobs = [Job(each, tmp_path / "runs" / each.name, log) for each in encoders]
        assert not train_jobs(jobs, open_corpus(str(book_file)), 1)
    *together, alone = jobs
    assert alone.row is None and (alone.out / "model" / "modules.json").is_file()
    for job in together:
        assert job.row is not None and job.row["status"] == "failed" and "worker is gone" in job.row["reason"]
