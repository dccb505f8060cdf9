"""The digest of a file."""

import hashlib
from pathlib import Path

from sentemb.errors import InputError


def digest(path: Path, algorithm: str = "blake2b") -> str:
    """Hex digest of a file's bytes; InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, algorithm).hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); check its permissions") from None
