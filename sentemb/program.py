"""How the running command was started: by the console script ``sentemb NAME``, or as a Python file or module."""

import shlex
import sys
from pathlib import Path

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
