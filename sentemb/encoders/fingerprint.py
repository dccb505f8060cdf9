"""Identify a saved model by a digest of its files."""

import hashlib
import json
from fnmatch import fnmatch
from pathlib import Path

from sentemb.encoders.loading import FETCHED
from sentemb.encoders.onnx import ONNX
from sentemb.storage import MANIFEST, digests

OF_VERSIONS = ("transformers_version", "__version__", "_name_or_path")  # in configs: who wrote them, and not what


def fingerprint_of(folder: Path) -> str:
    """Hex digest of a model's weights, configuration and tokenizer; the same whichever library versions read it.

    Raises:
        InputError: a file cannot be read.
    """
    exported = {path.parent for path in folder.rglob(f"{ONNX}/{MANIFEST}")}  # (in ONNX, after the model was written)
    files = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST and any(fnmatch(path.name, form) for form in FETCHED)
        if exported.isdisjoint(path.parents)
    ]
    texts = []
    for path, content in zip(files, digests(files), strict=True):
        if path.suffix == ".json" and path.stat().st_size < 1_000_000:
            content = _without_versions(path) or content
        texts.append(f"{path.relative_to(folder).as_posix()} {content}")
    return hashlib.blake2b("\n".join(texts).encode(), digest_size=16).hexdigest()


def _without_versions(path: Path) -> str | None:
    """A JSON object as text without what names the library that wrote it; None for other files."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    return json.dumps({key: value for key, value in content.items() if key not in OF_VERSIONS}, sort_keys=True)
