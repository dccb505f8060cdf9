"""The console script: each command is the module's own, the wrong ones are one sentence, and a shell completes them."""

import importlib
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from recipes.command import COMMANDS, main
from recipes.completion import parser_of
from sentemb import program
from sentemb.pipeline.resume import how_to_resume

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "transformers", "sentence_transformers", "datasets", "pandas", "matplotlib", "sentencex"}


@pytest.fixture
def argv(monkeypatch):
    """The command line of the process, which a command replaces."""
    monkeypatch.setattr(sys, "argv", list(sys.argv))


def printed(arguments, capsys, code=0):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == code
    return capsys.readouterr()


def test_every_command_has_a_module_with_a_main_function_and_a_parser():
    for name, command in COMMANDS.items():
        assert callable(importlib.import_module(command.module).main), name
        assert "--help" in parser_of(command.module)._option_string_actions, name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_prints_the_help_of_its_module_under_its_own_name(name, argv, capsys):
    help_text = printed([name, "--help"], capsys).out
    usage, description = help_text.split("\n\n")[:2]
    assert usage.startswith(f"usage: sentemb {name} [OPTIONS]") and usage.count("\n") < 2
    first_line = (importlib.import_module(COMMANDS[name].module).__doc__ or "").splitlines()[0]
    assert description.startswith(first_line)


def test_a_usage_line_names_what_must_be_given(argv, capsys):
    for command, needed in (
        ("export", " CHECKPOINT [OUT]"),
        ("evaluate", " checkpoint [checkpoint ...]"),
        ("evaluate-search", " (--data DIR | --corpus SPEC) checkpoint [checkpoint ...]"),
        ("sweep", " --study STUDY"),
        ("train", ""),
    ):
        usage = printed([command, "--help"], capsys).out.partition("\n\n")[0]
        assert " ".join(usage.split()) == f"usage: sentemb {command} [OPTIONS]{needed}"
    error = printed(["evaluate-search", "minilm"], capsys, code=2).err
    assert error.count("\n") == 3 and "one of the arguments --data --corpus is required" in error


def test_no_help_imports_what_takes_seconds():
    names = [*COMMANDS, ""]
    code = f"import sys\nfrom recipes.command import main\nfor name in {names!r}:\n"
    code += "    try:\n        main([name, '--help'] if name else [])\n    except SystemExit as stopped:\n"
    code += f"        assert stopped.code == 0, name\n    assert not {HEAVY!r} & sys.modules.keys(), name\n"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "--micro-batch" in done.stdout


@pytest.mark.parametrize(("terminal", "limit", "seconds"), [("0", "", 30), ("0", "5", 5), ("1", "", 0.1)])
def test_progress_bars_are_rare_in_a_log_file(terminal, limit, seconds, monkeypatch):
    code = f"import sys\nfrom recipes.command import main\nsys.stderr.isatty = lambda: {terminal}\n"
    code += "try:\n    main(['inspect', '--help'])\nexcept SystemExit:\n    from tqdm import tqdm\n"
    code += "    print('\\nseconds:', tqdm(total=1).mininterval)"
    monkeypatch.delenv("TQDM_MAXINTERVAL", raising=False)
    monkeypatch.delenv("TQDM_MININTERVAL", raising=False)
    if limit:
        monkeypatch.setenv("TQDM_MININTERVAL", limit)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert float(done.stdout.rpartition("seconds: ")[2]) == seconds, done.stderr


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_teaches_every_command(arguments, capsys):
    main(arguments)
    overview = capsys.readouterr().out
    assert overview.startswith("usage: sentemb COMMAND") and "sentemb train --corpus BOOKS" in overview
    lines = overview.splitlines()
    for name, command in COMMANDS.items():
        assert any(line.split() == [name, *command.summary.split()] for line in lines), name
    assert max(map(len, lines)) <= 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian' (did you mean 'train'?); valid: adapt, "),
        (["evalute", "runs/first"], "did you mean 'evaluate'?"),
        (["--corpus", "BOOKS"], "--corpus stands before the command; write sentemb COMMAND --corpus"),
        (["--completion", "bsh"], "unknown shell 'bsh' (did you mean 'bash'?); valid: bash, zsh"),
        (["--completion"], "unknown shell ''; valid: bash, zsh"),
    ],
)
def test_a_wrong_command_is_one_sentence(arguments, message, capsys):
    error = printed(arguments, capsys, code=2).err
    assert error.startswith("error: ") and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "end"),
    [
        (["train", "--encodr", "static"], "--encodr static; did you mean --encoder?\n"),
        (["evaluate", "x", "--foldz=3"], "--foldz=3; did you mean --folds?\n"),
        (["evaluate", "x", "--zzz"], "unrecognized arguments: --zzz\n"),
    ],
)
def test_a_misspelt_flag_is_named_with_the_nearest_one(arguments, end, argv, capsys):
    assert printed(arguments, capsys, code=2).err.endswith(end)


def test_a_command_keeps_its_exit_code(argv, capsys, tmp_path):
    assert "unknown corpus" in printed(["train", "--corpus", str(tmp_path / "nope")], capsys, code=2).err


def test_the_version_is_that_of_the_package(capsys):
    from importlib.metadata import version

    main(["--version"])
    assert capsys.readouterr().out.strip() == version("sentemb")


def test_a_run_of_the_console_script_is_repeated_and_resumed_with_it(monkeypatch):
    for name in ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "argv", ["sentemb train", "--corpus", "my books"])
    assert program.command_line() == "sentemb train --corpus 'my books'"
    assert how_to_resume(Path("runs/my run"), command=True) == "sentemb train --resume --out 'runs/my run'"
    monkeypatch.setattr(sys, "argv", ["my recipes/train.py", "--lr", "1"])
    python = Path(sys.executable).name
    assert program.command_line() == f"{python} 'my recipes/train.py' --lr 1"
    assert how_to_resume(Path("a"), command=True) == f"{python} 'my recipes/train.py' --resume --out a"


@pytest.fixture
def complete(tmp_path, capsys):
    """Completes a command line in bash, by the generated script."""
    if shutil.which("bash") is None:
        pytest.skip("bash is not installed")
    main(["--completion", "bash"])
    script = tmp_path / "completion.bash"
    script.write_text(capsys.readouterr().out)

    def offered(*words: str) -> set[str]:
        quoted = " ".join(f"'{word}'" for word in words)
        code = f"source '{script}'; COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}; _sentemb; "
        code += "printf '%s\\n' \"${COMPREPLY[@]}\""
        done = subprocess.run(["bash", "--norc", "-c", code], capture_output=True, text=True, check=True, timeout=60)
        assert not done.stderr
        return set(done.stdout.split())

    return offered


def test_bash_completes_commands_options_and_names(complete):
    assert complete("sentemb", "") == {*COMMANDS, "--help", "--version", "--completion"}
    assert complete("sentemb", "s") == {"simcse", "supervised", "search", "sweep"}
    assert complete("sentemb", "train", "--micro") == {"--micro-batch"}
    assert complete("sentemb", "train", "--objective", "vic") == {"vicreg"}
    assert complete("sentemb", "evaluate", "runs/first", "--format", "") == {"text", "markdown", "latex", "csv", "json"}
    assert complete("sentemb", "sweep", "--study", "cir") == {"circle"}
    assert complete("sentemb", "--completion", "") == {"bash", "zsh"}
    assert complete("sentemb", "train", "--corpus", "some") == set()  # (bash continues with file names)
    for name, command in COMMANDS.items():
        assert complete("sentemb", name, "--") == {
            option for option in parser_of(command.module)._option_string_actions if option.startswith("--")
        }


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_reads_its_script(capsys, tmp_path):
    main(["--completion", "zsh"])
    script = tmp_path / "_sentemb"
    script.write_text(capsys.readouterr().out)
    code = (
        f"autoload -U compinit && compinit -u -d '{tmp_path / 'dump'}' && source '{script}' && print $_comps[sentemb]"
    )
    done = subprocess.run(["zsh", "-f", "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "_sentemb" in done.stdout, done.stderr
