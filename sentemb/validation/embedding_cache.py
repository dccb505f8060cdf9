"""Embeddings on disk, by the fingerprint of the model that made them."""

import hashlib
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from sentence_transformers import SentenceTransformer

from sentemb.encoders import full_size, towers_of
from sentemb.errors import InputError
from sentemb.storage import partial_path


def fingerprint(model: SentenceTransformer) -> str:
    """Hex digest of all that an embedding depends on: modules, settings, weights, tokenizer, lengths."""
    seen = hashlib.blake2b(digest_size=16)
    # repr has the modules and their options; dropout and the like change it without need, never the other way round.
    settings: list[Any] = []
    for part in dict.fromkeys([model, *towers_of(model)]):  # (one tower is the model)
        settings += [repr(part), part.max_seq_length, part.truncate_dim, part.default_prompt_name, part.prompts]
        for module in part:
            settings += [_vocabulary(getattr(module, "tokenizer", None)), getattr(module, "get_config_dict", dict)()]
    seen.update(repr(settings).encode())
    for name, tensor in sorted(model.state_dict().items()):
        seen.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        seen.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return seen.hexdigest()


def _vocabulary(tokenizer: Any) -> Any:
    """All that a tokenizer does, as text or plain values: never its repr, which may hold an address."""
    inner = getattr(tokenizer, "tokenizer", tokenizer)  # word embeddings wrap a transformer's
    backend = getattr(inner, "backend_tokenizer", inner)
    if hasattr(backend, "to_str"):
        rules = json.loads(backend.to_str())
        return {key: value for key, value in rules.items() if key not in ("padding", "truncation")}  # encode sets them
    words = tokenizer.get_vocab() if hasattr(tokenizer, "get_vocab") else ()
    return type(tokenizer).__name__, sorted(words.items()) if isinstance(words, dict) else list(words)


class EmbeddingCache:
    """Embeddings on disk: ``folder/<fingerprint of the model>/rows-*/``, each written whole and never changed.

    Rows are memory-mapped. Files that cannot be read are left out, with a note on stderr, and encoded again.

    Raises:
        InputError: the folder cannot be made or written to.
    """

    def __init__(self, folder: Path, model: SentenceTransformer) -> None:
        self.folder = folder / fingerprint(full_size(model))  # (rows are cut where they are read)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            probe = partial_path(self.folder / "probe")
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise InputError(f"--cache {folder} cannot be written to ({error.strerror}); name another folder") from None
        self.row_of_key: dict[bytes, tuple[int, int]] = {}  # digest of a sentence -> (file, row)
        self.files: list[np.ndarray] = []
        for path in sorted(self.folder.glob("rows-*")):
            try:
                keys = np.load(path / "keys.npy", allow_pickle=False)
                rows = np.load(path / "rows.npy", allow_pickle=False, mmap_mode="r")
                if keys.ndim != 2 or keys.dtype != np.uint8 or rows.ndim != 2 or len(keys) != len(rows):
                    raise ValueError("keys and rows do not match")
            except (OSError, ValueError, EOFError) as error:
                print(f"note: {path} is damaged and left out ({error}); delete it", file=sys.stderr)
                continue
            self.row_of_key.update({key.tobytes(): (len(self.files), i) for i, key in enumerate(keys)})
            self.files.append(rows)

    def find(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
        """The rows of those sentences that are here."""
        rows = {}
        for text in texts:
            where = self.row_of_key.get(_key(text))
            if where is not None:
                rows[text] = self.files[where[0]][where[1]]
        return rows

    def of(self, model: SentenceTransformer, prompt: str | None = None) -> None:
        """None: the folder has no embeddings of single towers, nor by other prompts than the model's default one."""

    def keep(self, texts: Sequence[str], rows: np.ndarray) -> None:
        """Add rows. A full disk costs the cache, not the scores."""
        keys = np.frombuffer(b"".join(_key(text) for text in texts), dtype=np.uint8).reshape(len(texts), -1)
        target = self.folder / f"rows-{uuid4().hex}"
        partial = partial_path(target)
        try:
            partial.mkdir()
            np.save(partial / "keys.npy", keys, allow_pickle=False)
            np.save(partial / "rows.npy", rows, allow_pickle=False)
            partial.rename(target)
        except OSError as error:
            shutil.rmtree(partial, ignore_errors=True)
            print(f"note: embeddings could not be stored in {self.folder} ({error.strerror})", file=sys.stderr)


def _key(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
