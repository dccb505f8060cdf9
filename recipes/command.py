"""The console script ``sentemb``: each command runs the main function of one module.

The module is imported when its command runs, so ``sentemb --help`` imports none of them. Add a command with a line in
COMMANDS; its module offers ``main()``, which reads sys.argv, and ``parser()`` unless it is a training recipe.
"""

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from sentemb.errors import InputError, exit_codes
from sentemb.program import CONSOLE_SCRIPT

BAR_SECONDS = "30"  # between two states of a progress bar, where stderr is not a terminal


@dataclass(frozen=True)
class Command:
    """A command: the module that it runs, the heading that the overview puts it under, and what it does."""

    module: str
    group: str
    summary: str


COMMANDS = {
    "train": Command("recipes.train_bookcorpus", "Train", "an encoder on neighbouring sentences of your text"),
    "simcse": Command("recipes.train_simcse", "Train", "a transformer on single sentences and dropout (SimCSE)"),
    "supervised": Command("recipes.train_supervised", "Train", "on labelled pairs, with or without hard negatives"),
    "distill": Command("recipes.train_distill", "Train", "a small, fast student on a teacher's embeddings"),
    "adapt": Command("recipes.adapt", "Train", "a finished model further on your text, within a time budget"),
    "evaluate": Command("eval.senteval", "Use and compare", "score checkpoints on SentEval's tasks"),
    "evaluate-search": Command("eval.search.command", "Use and compare", "score how well models find passages"),
    "search": Command("recipes.search", "Use and compare", "find the sentences of a text that are nearest to yours"),
    "encode": Command("recipes.encode", "Use and compare", "embed a text of any size into a folder of vectors"),
    "sweep": Command("recipes.sweep", "Use and compare", "train and score many encoders: a study with statistics"),
    "export": Command("sentemb.export.command", "Use and compare", "write an encoder in fewer bytes, or for ONNX"),
    "inspect": Command("sentemb.inspection.cli", "Prepare", "show what a text holds before you train on it"),
    "download": Command("eval.download", "Prepare", "fetch SentEval's data, 17 MB, and check it"),
    "doctor": Command("recipes.doctor", "Prepare", "check that this machine can train"),
}

OVERVIEW = """usage: sentemb COMMAND [OPTIONS]

Train sentence encoders on unlabelled text, score them, and see why they work.

First steps:
  sentemb train                                   train on the built-in sample, in minutes
  sentemb train --corpus BOOKS --out runs/first   train on your text: a folder of .txt files
  sentemb evaluate runs/first                     score the model
  sentemb search runs/first --ask "It was dark."  list the nearest sentences of its text

{commands}

sentemb COMMAND --help    options of a command
sentemb --completion bash > ~/.local/share/bash-completion/completions/sentemb
                          complete commands and options with the Tab key (also for zsh)
sentemb --version         the version
accelerate launch -m recipes.train_bookcorpus OPTIONS
                          train on several processes"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the first argument names: 0 done, 2 no such command, or the command's own exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (words[0], words[1:]) if words else ("--help", [])
    if name in ("-h", "--help", "help"):
        print(overview())
    elif name == "--version":
        from importlib.metadata import version

        print(version("sentemb"))
    else:
        with exit_codes():
            run(name, rest)


def run(name: str, rest: list[str]) -> None:
    """Run one command, which sees ``sentemb NAME`` and ``rest`` as the command line of the process.

    Raises:
        InputError: there is no such command, shell or option.
    """
    from sentemb.registry import choose

    if name == "--completion":
        from recipes.completion import completion

        print(completion(" ".join(rest), {name: command.module for name, command in COMMANDS.items()}), end="")
        return
    if name.startswith("-"):
        raise InputError(f"{name} stands before the command; write sentemb COMMAND {name}, or sentemb --help")
    command = COMMANDS[choose("command", name, COMMANDS)]
    sys.argv = [f"{CONSOLE_SCRIPT} {name}", *rest]
    if not sys.stderr.isatty():  # tqdm reads these when it is imported; each state of a bar is a line of a log file
        for limit in ("TQDM_MININTERVAL", "TQDM_MAXINTERVAL"):
            os.environ.setdefault(limit, BAR_SECONDS)
    importlib.import_module(command.module).main()


def overview() -> str:
    """What ``sentemb`` alone prints: first steps, and the commands under their headings."""
    width = max(map(len, COMMANDS))
    groups: dict[str, list[str]] = {}
    for name, command in COMMANDS.items():
        groups.setdefault(command.group, []).append(f"  {name:<{width}}  {command.summary}")
    lists = ["\n".join([f"{group}:", *lines]) for group, lines in groups.items()]
    return OVERVIEW.format(commands="\n\n".join(lists))


if __name__ == "__main__":
    main()
