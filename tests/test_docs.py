"""The documentation site builds without a broken link; its commands have flags that exist, and its examples run."""

import ast
import importlib
import inspect
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

import sentemb
from eval import GROUPS, TASKS, senteval
from eval.search import command as search_command
from recipes import adapt, encode, search, train_bookcorpus, train_distill, train_simcse, train_supervised
from recipes.runner import parser
from recipes.runner.presets import presets
from sentemb.pipeline import default_settings
from tests.documentation import api_reference, student_figure
from tests.documentation.commands import commands_of
from tests.documentation.words import README_WORDS, WORDS_A_SENTENCE, pages, sentences, words_a_sentence

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted(DOCS.glob("*.md"))}
CONFIG = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
HOSTS = {"arxiv.org", "download.pytorch.org", "github.com", "huggingface.co", "pytorch.org", "pypi.org", "zensical.org"}
FENCE = re.compile(r"^(<!-- run -->\n)?```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(name, *block) for name, page in PAGES.items() for block in FENCE.findall(page)]  # page, run, kind, text
RECIPES = {
    f"recipes/{module.__name__.rpartition('.')[2]}.py": default_settings() | getattr(module, "DEFAULTS", {})
    for module in (train_bookcorpus, train_simcse, train_supervised, train_distill)
}
OTHERS = ("recipes/search.py", "recipes/adapt.py", "recipes/encode.py")
STUDIES = ROOT / "recipes" / "studies"


def prose(page: str) -> str:
    """A page without its blocks and its inline code."""
    return re.sub(r"`[^`\n]*`", "", FENCE.sub("", page))


def anchors(page: str) -> set[str]:
    """Of the headings, as the site makes them."""
    slugs: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", FENCE.sub("", page), re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower()
        slugs.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip()))
    return slugs


def links() -> list[tuple[str, str]]:
    pages = PAGES | {"../README.md": (ROOT / "README.md").read_text(encoding="utf-8")}
    return [(name, target) for name, page in pages.items() for target in re.findall(r"\]\(([^)\s]+)\)", prose(page))]


def commands() -> list[str]:
    """Those of the README's and the pages' blocks, but for ``make`` and scripts of the user's own."""
    readme = FENCE.findall((ROOT / "README.md").read_text(encoding="utf-8"))
    texts = [text for *_, kind, text in (*BLOCKS, *readme) if kind in ("", "bash")]
    listed = [command for text in texts for command in commands_of(text)]
    return [command for command in listed if not command.startswith("make ") and not command.endswith(" script.py")]


def build(folder: Path) -> subprocess.CompletedProcess[str]:
    """Build the site of ``folder``'s mkdocs.yml and docs/, as ``make docs`` does."""
    tool = Path(sys.executable).with_name("zensical")
    command = [str(tool), "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


@pytest.fixture
def site(tmp_path):
    """A folder with a copy of what the site is built from."""
    pytest.importorskip("zensical", reason="zensical, which builds the site, is not installed (the extra docs)")
    shutil.copytree(DOCS, tmp_path / "docs")
    shutil.copy(ROOT / "mkdocs.yml", tmp_path)
    return tmp_path


def test_the_site_builds_and_fetches_nothing(site):
    built = build(site)
    assert built.returncode == 0, built.stdout + built.stderr
    for page in PAGES:
        html = (site / "site" / page).with_suffix(".html").read_text(encoding="utf-8")
        fetched = re.findall(r"<(?:script|link|img|iframe)[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>", html)
        assert not fetched, page
        assert anchors(PAGES[page]) <= set(re.findall(r"<h\d id=\"?([^\s\">]+)", html)), page


@pytest.mark.parametrize("broken", ["[x](nowhere.md)", "[x](faq.md#nowhere)"])
def test_a_broken_link_fails_the_build(site, broken):
    (site / "docs" / "index.md").write_text(f"# Home\n\n{broken}\n", encoding="utf-8")
    assert build(site).returncode != 0


def test_links_and_anchors_resolve():
    page_links = links()
    assert len(page_links) > 40
    for name, target in page_links:
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            good = parts.scheme == "https" and parts.hostname in HOSTS and re.fullmatch(r"[!-~]+", target)
            assert good, f"{name}: {target} is not a well-formed address of a host that is known"
            assert parts.hostname != "arxiv.org" or re.fullmatch(r"/abs/\d{4}\.\d{4,5}", parts.path), (name, target)
            continue
        path = (DOCS / name).resolve().parent / parts.path if parts.path else (DOCS / name).resolve()
        assert path.is_file(), f"{name}: there is no {target}"
        assert not parts.fragment or parts.fragment in anchors(path.read_text(encoding="utf-8")), f"{name}: {target}"


def test_every_address_is_of_a_known_host():
    for name, page in PAGES.items():
        for address in re.findall(r"https?://[^\s)\"'`>]+", page):
            assert urlsplit(address).hostname in HOSTS and address.startswith("https:"), f"{name}: {address}"


def test_every_page_is_in_the_navigation_once():
    listed = [page for entry in CONFIG["nav"] for page in entry.values()]
    assert sorted(listed) == sorted(PAGES)
    assert listed[0] == "index.md" and all(page.startswith("# ") for page in PAGES.values())


@pytest.fixture
def place(tmp_path, book_file, monkeypatch):
    """An empty folder to run examples in; what they put into our tables is taken out again."""
    from sentemb import CORPORA, ENCODERS, OBJECTIVES, PAIRS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    tables = [CORPORA, ENCODERS, OBJECTIVES, PAIRS, TASKS]
    before = [dict(table) for table in tables]
    yield tmp_path
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


def run_blocks(name: str) -> dict[str, object]:
    """Run a page's blocks that are marked so, one after another, as one script."""
    blocks = [text for page, run, kind, text in BLOCKS if page == name and run and kind == "python"]
    assert blocks
    namespace: dict[str, object] = {"__name__": "page"}
    for text in blocks:
        exec(compile(text, name, "exec"), namespace)
    return namespace


def test_the_examples_of_extending_run(place, capsys):
    from sentemb import load

    namespace = run_blocks("extending.md")
    assert namespace["results"]["tasks"]["TOPIC"]["n"] == 20
    assert "TOPIC" in capsys.readouterr().out
    assert load("runs/town").encode(["Ann spoke."]).shape == (1, 8)
    assert "margin" in (place / "runs" / "town" / "config.json").read_text()


def test_the_objective_of_extending_is_what_its_formula_says(place):
    import torch

    from sentemb.geometry import l2_normalize
    from sentemb.objectives import Extras

    namespace: dict[str, object] = {}
    exec(next(text for page, run, _, text in BLOCKS if page == "extending.md" and run and "Margin" in text), namespace)
    made = torch.Generator().manual_seed(0)
    x, y = (torch.randn(4, 3, dtype=torch.float64, generator=made).requires_grad_() for _ in range(2))
    s = (l2_normalize(x) @ l2_normalize(y).T).tolist()
    copied = {(0, 2), (2, 0), (1, 3)}  # y_2 is a copy of y_0; y_3 one of x_1
    ids = torch.tensor([[0, 10], [1, 11], [2, 10], [3, 1]])
    for extras, left_out in ((None, set()), (Extras(ids), copied)):
        negatives = [(i, j) for i in range(4) for j in range(4) if i != j and (i, j) not in left_out]
        expected = sum(max(0.0, 0.2 + s[i][j] - s[i][i]) for i, j in negatives) / len(negatives)
        loss = namespace["Margin"]()(x, y, extras)
        assert loss.item() == pytest.approx(expected)
        loss.backward()
    for rows in (torch.ones(3, 2), torch.zeros(3, 2), torch.ones(1, 2)):
        assert namespace["Margin"]()(rows.requires_grad_(), rows).isfinite()


def test_the_examples_of_from_python_run(place):
    namespace = run_blocks("python.md")
    assert namespace["run"].step == 40 and namespace["result"].step == 20


def test_the_example_of_corpora_prints_what_stands_below_it(place, capsys):
    run_blocks("corpora.md")
    assert f"```\n{capsys.readouterr().out}```\n" in PAGES["corpora.md"]


def test_the_examples_of_the_quickstart_run(place, book_file):
    small = "static:embeddings=random,dim=5,vocabulary=270"
    arguments = ["--corpus", str(book_file), "--encoder", small, "--max-steps", "1", "--batch-size", "8", "--no-score"]
    train_bookcorpus.main([*arguments, "--out", "runs/bookcorpus"])
    assert type(run_blocks("quickstart.md")["model"]).__name__ == "SentenceTransformer"


def test_blocks_marked_to_run_are_python_or_commands():
    assert {kind for _, run, kind, _ in BLOCKS if run} == {"python", "bash"}  # (commands: tests/test_readme.py)


def test_every_python_block_is_run_or_at_least_python():
    for _, _, kind, text in BLOCKS:
        if kind == "python":
            ast.parse(text)


def parsers() -> dict[str, object]:
    """Whatever parses the arguments of a command, by its first words."""
    from recipes import doctor

    parse_by_command = {
        recipe: lambda arguments, defaults=defaults: parser("", defaults).parse_args(arguments)
        for recipe, defaults in RECIPES.items()
    }
    parse_by_command["eval.senteval"] = lambda arguments: senteval.parser().parse_args(arguments)
    parse_by_command["eval.search"] = lambda arguments: search_command.parser().parse_args(arguments)
    parse_by_command["recipes/search.py"] = lambda arguments: search.parser().parse_args(arguments)
    parse_by_command["recipes/encode.py"] = lambda arguments: encode.parser().parse_args(arguments)
    parse_by_command["recipes/adapt.py"] = lambda arguments: adapt.parser().parse_args(arguments)
    modules = {"eval.download": "eval.download", "sentemb.corpus": "sentemb.inspection.cli"}
    modules["eval.package_docs"] = "eval.package_docs.command"
    for command, module in (modules | {"sentemb.export": "sentemb.export"}).items():
        parse_by_command[command] = importlib.import_module(module).main
    return parse_by_command | {"recipes/doctor.py": doctor.main}


def refused_flags(main: object, arguments: list[str], monkeypatch) -> None:
    """Parse with a command that has no parser of its own to give: it ends once its arguments are parsed."""
    import argparse

    class Parsed(Exception):
        pass

    def parse(self, arguments=None, namespace=None):
        rest = self.parse_known_args(arguments, namespace)[1]
        raise Parsed if not rest else AssertionError(f"unknown {rest}")

    with monkeypatch.context() as patch, pytest.raises(Parsed):
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        main(arguments)


@pytest.mark.parametrize("command", commands())
def test_a_command_has_flags_that_exist(command, monkeypatch):
    words = shlex.split(command)
    at = next(i for i, word in enumerate(words) if word.startswith("recipes/") or word == "-m")
    program, arguments = (words[at], words[at + 1 :]) if words[at] != "-m" else (words[at + 1], words[at + 2 :])
    if program == "recipes/sweep.py":
        sweep = pytest.importorskip("recipes.sweep")
        parsed = sweep.parser().parse_args(arguments)
        assert parsed.study.endswith(".yaml") or (STUDIES / f"{parsed.study}.yaml").is_file()
        return
    parse_by_command = parsers()
    assert program in parse_by_command, command
    if program in RECIPES or program in ("eval.senteval", "eval.search", *OTHERS):
        parsed = parse_by_command[program](arguments)  # an unknown flag exits
        if "--import" not in arguments:  # (which adds names to the tables)
            specs(vars(parsed))
    else:
        refused_flags(parse_by_command[program], arguments, monkeypatch)
    if words[0] == "accelerate":
        from accelerate.commands.launch import launch_command_parser

        assert launch_command_parser().parse_args(words[2:]).training_script == program
    elif words[0] == "torchrun":
        from torch.distributed.run import get_args_parser

        assert get_args_parser().parse_args(words[1:]).training_script == program


def specs(settings: dict[str, object]) -> None:
    """The names and options that a command's specs hold exist."""
    from eval import PROBES, named
    from sentemb.corpus import CLEANINGS
    from sentemb.encoders import ENCODERS, HEADS
    from sentemb.mining import NEGATIVES
    from sentemb.objectives import OBJECTIVES
    from sentemb.pairs import PAIRS
    from sentemb.registry import check, choose, terms_of_sum

    tables = {"encoder": ENCODERS, "objective": OBJECTIVES, "pairs": PAIRS, "head": HEADS, "clean": CLEANINGS}
    tables["negatives"] = NEGATIVES
    for key, table in (tables | {"probe": PROBES}).items():
        if key in settings:
            parts = [part for part, _ in terms_of_sum(settings[key], key)] if key == "objective" else [settings[key]]
            for part in parts:
                check(table, part, key, ("texts", "max_length", "ranges", "dimension"))
    if "preset" in settings:
        choose("preset", settings["preset"], presets())
    if settings.get("tasks"):
        named(settings["tasks"].split(","))


def test_the_flags_that_pages_name_exist():
    flags = {flag for defaults in RECIPES.values() for flag in parser("", defaults)._option_string_actions}
    for command in (senteval, search_command, search, adapt, encode):
        flags |= set(command.parser()._option_string_actions)
    launchers = {"--num_processes", "--cpu", "--nproc_per_node", "--quiet", "--local_addr"}
    others = {
        "--completion",
        "--rounds",
        "--list",
        "--mirror",
        "--offline",
        "--quick",
        "--study",
        "--jobs",
        "--dry-run",
        "--page",
        "--folds",
        "--stack",
        "--share",
        "--kinds",
        "--times",
        "--updates",
        "--model",
        "--models",
        "--transformer-sentences",
        "--peer-sentences",
        "--anchors",
        "--theirs",
        "--size",
    }
    for name, page in PAGES.items():
        for code in re.findall(r"`([^`\n]+)`", FENCE.sub("", page)):
            for flag in re.findall(r"(?<![\w-])--[a-z][\w-]*", code):
                assert flag in flags | launchers | others, f"{name}: {flag}"


def rows(page: str, first: str) -> dict[str, list[str]]:
    """The cells of the table whose head begins with ``first``, by its first column."""
    table = page[page.index(f"| {first} |") :].split("\n\n")[0].splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {row[0].strip("`"): row[1:] for row in cells}


def test_the_table_of_defaults_is_that_of_the_code():
    table = rows(PAGES["recipes.md"], "flag")
    assert {"--encoder", "--lr", "--batch-size"} <= table.keys()
    for flag, cells in table.items():
        for defaults, cell in zip(RECIPES.values(), cells, strict=True):
            value = defaults[flag[2:].replace("-", "_")]
            assert cell == ("needed" if value is None else f"`{value}`"), flag


def test_the_presets_named_are_those_there_are():
    named = {preset: row[0] for key, row in rows(PAGES["recipes.md"], "preset").items() for preset in key.split("`, `")}
    assert {name: f"`{preset['recipe']}`" for name, preset in presets().items()} == named


@pytest.mark.skipif(not STUDIES.is_dir(), reason="recipes/studies is not there")
def test_the_studies_named_are_those_there_are():
    assert set(rows(PAGES["sweep.md"], "shipped study")) == {path.stem for path in STUDIES.glob("*.yaml")}


def test_the_table_of_tasks_is_that_of_the_code():
    table = rows(PAGES["evaluation.md"], "task")
    assert list(table) == list(TASKS)
    for name, (counts, classes, scheme) in table.items():
        task, parts = TASKS[name], {}
        for file in task.files:
            parts[file.part] = parts.get(file.part, 0) + file.rows
        if task.form == "sts":
            expected = f"{sum(parts.values()):,} in {len(parts)} subsets"
        elif "all" in parts:
            expected = f"{parts['all']:,}"
        else:
            expected = ", ".join(f"{part} {number:,}" for part, number in parts.items())
        assert (counts, classes, scheme) == (expected, str(len(task.classes) or "-"), task.scheme)
    groups = rows(PAGES["evaluation.md"], "group")
    for name in ("transfer", "sts"):
        assert groups[name][0].partition(":")[0] == ", ".join(GROUPS[name])
    assert set(groups) == set(GROUPS)


def test_the_table_of_evaluation_options_is_complete():
    parser = senteval.parser()
    flags = {flag for flag in parser._option_string_actions if flag.startswith("--")} - {"--help"}
    assert set(rows(PAGES["evaluation.md"], "option")) == flags


def test_the_forms_and_schemes_named_are_those_there_are():
    from eval.tasks.readers import SHAPES

    assert set(rows(PAGES["extending.md"], "form")) == set(SHAPES)
    named = ", ".join(rows(PAGES["extending.md"], "scheme")).replace("`", "")
    assert set(named.split(", ")) == {task.scheme for task in TASKS.values()}


def test_pages_name_nothing_of_a_machine():
    for name, page in PAGES.items():
        assert str(ROOT) not in page and str(Path.home()) not in page, name


def test_the_table_of_the_log_has_every_field():
    from dataclasses import fields

    from sentemb.training import StepRecord
    from sentemb.training.log.record import BatchGeometry

    nested = {"geometry", "metrics", "scores", "conditions"}
    expected = {f.name for f in (*fields(StepRecord), *fields(BatchGeometry))} - nested
    expected |= {"attention", "compile", "precision", "stacked", "threads"}
    expected |= {"teacher_similarity", "teacher_cosine", "search_ndcg_at_10", "search_mrr_at_10"}
    expected |= {"heldout_alignment", "heldout_uniformity", "retrieval_mrr", "retrieval_recall_at_1"}
    assert {name for key in rows(PAGES["runs.md"], "field") for name in key.split("`, `")} == expected


def test_the_readme_is_short():
    assert len(pages()["README.md"].split()) <= README_WORDS


@pytest.mark.parametrize("name", pages())
def test_sentences_are_short(name):
    page = pages()[name]
    assert words_a_sentence(page) <= WORDS_A_SENTENCE, sorted(sentences(page), key=len)[-3:]


def test_sentences_are_those_of_the_prose():
    page = "# A head\n\nOne `two words` three. Is it [four five](x.md)?\n\n```\ncode. Code.\n```\n"
    page += "\n- an item\n- and\n  another\n"
    assert sentences(page + "\n| a | table. |\n|---|---|\n\n![a figure](x.png)\n") == [
        "One Code three.",
        "Is it four five?",
        "an item",
        "and another",
    ]
    assert words_a_sentence(page) == 11 / 4


def test_the_page_of_the_api_is_that_of_the_code():
    assert PAGES["api.md"] == api_reference.page(), "run: make pages"


def test_the_page_of_the_api_has_every_public_name_of_the_package():
    tables = {"CORPORA", "ENCODERS", "OBJECTIVES", "PAIRS", "TrainingSettings"}  # (the last: among the settings)
    described = {name for names in api_reference.MODULES.values() for name in names}
    assert set(sentemb.__all__) - tables <= described


def test_every_argument_of_the_api_that_a_docstring_explains_is_in_its_table():
    entry = "\n".join(api_reference._entry("open_corpus", sentemb.open_corpus, "###"))
    assert set(rows(entry, "argument")) == set(inspect.signature(sentemb.open_corpus).parameters)
    assert set(rows(entry, "error")) == {"InputError"}


def test_the_figure_of_students_is_that_of_the_results():
    measured = student_figure.measured(PAGES["results.md"])
    expected = student_figure.figure(measured)
    assert student_figure.FIGURE.read_text(encoding="utf-8") == expected, "run: make pages"
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    for name, text in (("trained", "**{:.2f}**"), ("model2vec", "model2vec {:.2f}"), ("teacher", "MiniLM {:.2f}")):
        assert text.format(measured[name][0]) in readme
    assert f"{measured['trained'][1]:,.0f} sentences a second" in readme
    with pytest.raises(ValueError, match="no table of static students"):
        student_figure.measured("# Results")


def test_the_figures_of_the_readme_are_those_of_the_results():
    readme, results = (ROOT / "README.md").read_text(encoding="utf-8"), PAGES["results.md"]
    for name, label in (("minilm", "train MiniLM"), ("lstm", "train an LSTM"), ("gru", "train a GRU")):
        speeds = re.findall(rf"^{name}-float32: (?:ours|theirs) ([\d.]+) pairs/s", results, re.MULTILINE)
        ours, theirs = speeds[:2]
        ratio = re.search(rf"^ratio {name}-float32 ([\d.]+)", results, re.MULTILINE)[1]
        assert rows(readme, "work")[f"{label}, pairs/s"] == [ours, f"sentence-transformers {theirs}", ratio]
    ours, theirs, ratio = re.search(r"^sum +([\d.]+) +([\d.]+) +([\d.]+)", results, re.MULTILINE).groups()
    cells = rows(readme, "work")["probes of seven tasks, seconds"]
    assert cells[0] == ours and cells[1].startswith(f"scikit-learn {theirs}") and cells[2] == ratio
    for number in ("80.45", "79.54", "78.62", "+0.12 to +1.69", "67.58", "78.87", "+2.64 to +4.05"):
        assert number in readme and number in results
