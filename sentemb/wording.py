"""Words of messages."""


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun: ``1 process``, ``2 processes``, ``1,000 lines``.

    Args:
        number: of things.
        noun: of one.
        plural: of several; None: the noun with s, or with es after ss.
    """
    several = plural or noun + ("es" if noun.endswith("ss") else "s")
    return f"{number:,} {noun if number == 1 else several}"
