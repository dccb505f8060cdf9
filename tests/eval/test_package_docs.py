"""A collection out of packages' documentation: sections by hand, titles' words removed, documents on one side only."""

import json
import subprocess
import sys

import pytest

from eval.package_docs import collect, docstring_sections, markup_sections, without_title
from eval.package_docs.command import main
from eval.search import read_search_task
from sentemb.corpus import open_corpus

PROSE = (
    "Numbers come in and other numbers go out, until nobody knows any longer which of them was where at the beginning."
)

MODULE = f'''"""Filters for long signals.

{PROSE}
"""


def smooth(x):
    """Smooth a signal with a window of fixed size.

    The Window is moved over all values. {PROSE}

    Parameters
    ----------
    x : array
        Values.

    >>> smooth([1, 2])
    """

    def inner():
        """Hidden helper of the smoothing function.

        {PROSE}
        """


class Filter:
    """A filter.

    {PROSE}
    """

    def apply(self, x):
        """Apply this filter to new values.

        See :func:`smooth` and `the guide <https://example.org/a>`_. {PROSE}
        """

    def _private(self):
        """Do something that nobody needs to know.

        {PROSE}
        """
'''


def test_docstrings_are_sections_and_their_summaries_the_titles():
    sections = {section.title: section.text for section in docstring_sections(MODULE)}
    assert list(sections) == [
        "Filters for long signals",
        "Smooth a signal with a window of fixed size",
        "Apply this filter to new values",
    ]
    smooth = sections["Smooth a signal with a window of fixed size"]
    assert smooth.startswith("The is moved over all values. Numbers come in")
    assert "Parameters x : array Values." in smooth and "---" not in smooth and ">>>" not in smooth
    assert sections["Apply this filter to new values"].startswith("See smooth and the guide. Numbers come in")
    assert [*docstring_sections("def broken(:")] == [*docstring_sections("x = 1")] == []


PAGE = f"""
Some words before any heading, which have no title. {PROSE}

# How to install it here

```
pip install nothing
```

Run *pip* and [read on](https://example.org). {PROSE}

## Usage

{PROSE}

A heading that is underlined
----------------------------

{PROSE} <img src="x.png"> ![picture](y.png)

### And one with too little below it

Few words.
"""


def test_headings_of_both_kinds_begin_sections():
    sections = {section.title: section.text for section in markup_sections(PAGE)}
    assert list(sections) == ["How to install it here", "A heading that is underlined"]
    assert sections["How to install it here"].startswith("Run pip and read on. Numbers come in")
    assert "png" not in sections["A heading that is underlined"] and "nothing" not in str(sections)


def test_a_titles_words_are_removed_but_for_function_words():
    text = without_title("The Size of a moving window", "the size, SIZE of window_size and a sized Window in it")
    assert text == "the , of _ and a sized in it"


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Two installed packages: one of thirty modules with five sections each, and one with a page and a copy."""
    site = tmp_path / "site"

    def install(name, files, description=""):
        info = site / f"{name}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n\n{description}")
        for path, text in files.items():
            (site / path).parent.mkdir(parents=True, exist_ok=True)
            (site / path).write_text(text)
        (info / "RECORD").write_text("".join(f"{path},,\n" for path in (*files, "gone.py")))

    def function(module, number):
        text = f"Value v{number}x{module} of the module begins. {PROSE} It has {number} ends and {module} sides."
        return f'def f{number}():\n    """Compute thing {number} of module {module}.\n\n    {text}\n    """\n\n'

    modules = {f"alpha/m{m:02}.py": "".join(function(m, n) for n in range(5)) for m in range(30)}
    install("alpha", modules | {"alpha/tests/test_x.py": function(99, 9), "alpha/LICENSE.md": PAGE})
    install("beta", {"beta/copy.py": modules["alpha/m03.py"], "beta/page.md": PAGE}, PAGE)
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return "alpha,beta"


def test_what_is_written_is_a_corpus_and_a_task(packages, tmp_path, capsys):
    main([str(tmp_path / "docs"), "--packages", packages])
    printed = capsys.readouterr().out
    assert "of 2 packages" in printed and "alpha 1.2 (150), beta 1.2 (2)" in printed
    train = [json.loads(line) for line in (tmp_path / "docs" / "train.jsonl").read_text().splitlines()]
    task, dev = (read_search_task(tmp_path / "docs" / "search", split) for split in ("test", "dev"))
    assert len(train) + len(task.passages) == 152 and len(task.queries) + len(dev.queries) == len(task.passages)
    assert f"{len(train)} sections to train on, {len(task.passages)} to search" in printed
    assert not set(task.queries) & set(dev.queries) and all(map(len, (task.queries, dev.queries)))
    passages = task.passages.texts(slice(0, len(task.passages)))
    for part in (task, dev):
        for query, judged in zip(part.queries, part.judgements, strict=True):
            ((number, grade),) = judged.items()
            words = query.split()  # Compute thing N of module M
            assert grade == 1 and f"It has {words[2]} ends" not in passages[number] and "module" not in passages[number]
    searched = {json.loads(line)["_id"].split("#")[0] for line in (tmp_path / "docs/search/corpus.jsonl").open()}
    assert not searched & {row["document"] for row in train} and all("test" not in name for name in searched)
    assert not {row["title"] for row in train} & {*task.queries, *dev.queries}
    corpus = open_corpus(
        f"table:path={tmp_path / 'docs' / 'train.jsonl'},title=title,document=document,split_sentences=true",
        progress=False,
    )
    assert corpus.sentences(corpus.titles) == [row["title"] for row in train]
    counts = json.loads((tmp_path / "docs" / "packages.json").read_text())
    assert sum(counts["alpha"][side] for side in ("train", "search")) == 150


def test_equal_packages_give_equal_files_and_none_is_overwritten(packages, tmp_path, capsys):
    for name in "ab":
        main([str(tmp_path / name), "--packages", packages])
    for path in (tmp_path / "a").rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "a"), "--packages", packages])
    assert stopped.value.code == 2 and "is there already, and is not overwritten" in capsys.readouterr().err


def test_at_most_so_many_sections_of_a_package(packages):
    few = collect(packages.split(","), held_out=0.5, most=100)
    assert sum(few.count("alpha")) == 100 and set(few.versions.values()) == {"1.2"}
    default = collect(packages.split(","))
    assert sum(default.count("alpha")) == 150 and default.count("alpha")[1] < 0.35 * 150


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--packages", "alpha,nosuch"], "there is no installed package 'nosuch'"),
        (["--packages", "beta"], "gives 0 sections to search, and at least 20 are needed"),
        (["--held-out", "1"], "--held-out must lie between 0 and 1"),
        (["--most", "0"], "--most must be at least 1"),
    ],
)
def test_what_cannot_be_collected_is_one_sentence(arguments, message, packages, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main([str(tmp_path / "docs"), *arguments])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and message in error and error.count("\n") == 1
    assert not (tmp_path / "docs").exists()


def test_help_imports_nothing_heavy():
    command = [sys.executable, "-X", "importtime", "-m", "eval.package_docs", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "--packages" in done.stdout
    assert not any(name in done.stderr for name in ("torch", "numpy", "transformers", "datasets"))
