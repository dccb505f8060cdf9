"""The commands in a page's text; those of the console script as the file or module that they run."""

import re

from recipes.command import COMMANDS

STARTS = ("accelerate launch ", "torchrun ", "python ", "make ", *(f"sentemb {name}" for name in COMMANDS))


def commands_of(text: str) -> list[str]:
    """Lines that are commands, without their comments, continued lines joined."""
    lines = text.replace("\\\n", " ").splitlines()
    return [spelled_out(re.split(r"\s#", line)[0].strip()) for line in lines if line.startswith(STARTS)]


def spelled_out(command: str) -> str:
    """``sentemb train ...`` as ``python recipes/train_bookcorpus.py ...``; other commands as they are."""
    if not command.startswith("sentemb "):
        return command
    name, *arguments = command.split(maxsplit=2)[1:]
    package, _, module = COMMANDS[name].module.partition(".")
    if package == "recipes":
        program = f"recipes/{module}.py"
    else:
        program = "-m sentemb.corpus" if name == "inspect" else f"-m {package}.{module.removesuffix('.command')}"
    return " ".join(["python", program, *arguments])
