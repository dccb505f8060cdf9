"""How the running command was started, and the options that it takes."""

import argparse
import difflib
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

CONSOLE_SCRIPT = "sentemb"


def console_command() -> str | None:
    """``sentemb NAME`` if the console script started this command; None if Python did."""
    first = next(iter(sys.argv), "")
    return first if first.startswith(f"{CONSOLE_SCRIPT} ") else None


def started_as() -> list[str]:
    """The words that started this process, without the arguments: ``[sentemb, NAME]`` or ``[python, FILE]``."""
    command = console_command()
    return command.split() if command else [Path(sys.executable).name, *sys.argv[:1]]


def command_line() -> str:
    """The command line of this process, quoted for a shell."""
    return shlex.join([*started_as(), *sys.argv[1:]])


def command_parser(
    description: str | None, module: str | None = None, argument_default: str | None = None
) -> argparse.ArgumentParser:
    """The parser of a command, without arguments yet.

    Args:
        description: what ``--help`` begins with, printed as it is.
        module: that Python runs as the same command, ``python -m MODULE``; None: a file.
        argument_default: as of argparse.
    """
    return _Parser(
        prog=console_command() or (f"python -m {module}" if module else None),
        description=description,
        formatter_class=_ShortUsage,
        argument_default=argument_default,
        allow_abbrev=False,  # (a flag means one thing, also after a new one has come)
    )


class _Parser(argparse.ArgumentParser):
    """A parser that names the flag that a misspelt one is nearest to."""

    def error(self, message: str) -> NoReturn:
        unknown = message.removeprefix("unrecognized arguments: ")
        flag = next((word.partition("=")[0] for word in unknown.split() if word.startswith("--")), "")
        if unknown != message and (near := difflib.get_close_matches(flag, self._option_string_actions, n=1)):
            message += f"; did you mean {near[0]}?"
        super().error(message)


class _ShortUsage(argparse.RawDescriptionHelpFormatter):
    """A usage line with what must be given; ``[OPTIONS]`` stands for the rest, which can be eighty flags."""

    def add_usage(
        self, usage: str | None, actions: Iterable[argparse.Action], groups: Iterable[Any], prefix: str | None = None
    ) -> None:
        alternatives = [group for group in groups if group.required]
        needed = [action for group in alternatives for action in group._group_actions]
        shown = [each for each in actions if each.required or not each.option_strings or each in needed]
        options = argparse.Action(["OPTIONS"], "options", nargs=0)
        super().add_usage(usage, [options, *shown], alternatives, prefix)
