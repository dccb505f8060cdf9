"""Token ids of the texts that encoders are scored on: tokenized once for all encoders with one tokenizer."""

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding, WordEmbeddings

from sentemb.corpus import CHUNK, Tokens
from sentemb.encoders import towers_of
from sentemb.errors import InputError
from sentemb.forward import collate_tokens
from sentemb.storage import build_once, key_of

IN_MEMORY = 10_000_000  # token ids, of all lists of texts together: 40 MB


class TextTokens:
    """Token ids of lists of texts, as averaged word embeddings and recurrent encoders read them.

    Tokenizing takes most of the time in which such an encoder embeds its texts. A run scores its encoder on the same
    texts again and again, and a study all of its encoders.

    Args:
        folder: where the ids are kept for other processes and encoders; None: in memory only.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self._lists: dict[str, Tokens] = {}  # those used last come last

    def encode(
        self,
        model: SentenceTransformer,
        texts: Sequence[str],
        batch_size: int,
        prompt: str | None = None,
        rules: str | None = None,
    ) -> NDArray[np.float32]:
        """Embeddings ``[n, d]``, bit for bit those of ``model.encode``: the same batches through the same modules.

        Args:
            model: one that :func:`reads_token_ids`. texts: at least one. batch_size: texts a forward pass.
            prompt: goes before each text; None: the model's default one.
            rules: of the model and the prompt (:func:`rules_of`), where they have been computed before.
        """
        tokens = self._tokens(model, texts, prompt, rules or rules_of(model, prompt))
        model.eval()
        order = np.argsort([-len(text) for text in texts])  # as encode() sorts them
        parts = []
        with torch.inference_mode():
            for start in range(0, len(order), batch_size):
                features = collate_tokens(model, tokens.rows(order[start : start + batch_size]))
                features = {name: value.to(model.device) for name, value in features.items()}
                parts.append(model(features)["sentence_embedding"].float().cpu().numpy())
        rows = np.empty((len(order), parts[0].shape[1]), dtype=np.float32)
        rows[order] = np.concatenate(parts)
        return rows

    def _tokens(self, model: SentenceTransformer, texts: Sequence[str], prompt: str | None, rules: str) -> Tokens:
        """The ids of the texts, in their order."""
        key = key_of(rules, _digest(texts))
        tokens = self._lists.pop(key, None)
        if tokens is None and self.folder is not None:
            tokens = self._stored(self.folder / f"texts-{key}", model, texts, prompt)
        if tokens is None:
            tokens = Tokens(*_tokenize(model, texts, prompt))
        self._lists[key] = tokens
        while sum(len(each.ids) for each in self._lists.values()) > IN_MEMORY:
            del self._lists[next(iter(self._lists))]
        return tokens

    def _stored(
        self, folder: Path, model: SentenceTransformer, texts: Sequence[str], prompt: str | None
    ) -> Tokens | None:
        """What is in the folder, written first where it is not there; None if it cannot be written."""
        if (tokens := _opened(folder, len(texts))) is not None:
            return tokens
        with suppress(InputError):  # (a full disk costs time, not the scores)
            with build_once(folder, lambda made: _opened(made, len(texts)) is not None, "tokens", False) as work:
                if work is not None:
                    ids, offsets = _tokenize(model, texts, prompt)
                    np.save(work / "ids.npy", ids, allow_pickle=False)
                    np.save(work / "offsets.npy", offsets, allow_pickle=False)
            return _opened(folder, len(texts))
        return None


def reads_token_ids(model: Any) -> bool:
    """Whether all that a model sees of a text are the token ids of its first module, which :class:`TextTokens` has."""
    if type(model) is not SentenceTransformer or model.truncate_dim is not None:
        return False
    towers = towers_of(model)
    if len({tower.prompts.get(tower.default_prompt_name or "") or "" for tower in towers}) > 1:
        return False  # (a Towers module then has token ids for each tower)
    firsts: list[Any] = [tower[0] for tower in towers]
    return all(
        type(first) is StaticEmbedding
        or (type(first) is WordEmbeddings and hasattr(getattr(first.tokenizer, "tokenizer", None), "backend_tokenizer"))
        for first in firsts
    )


def rules_of(model: SentenceTransformer, prompt: str | None = None) -> str:
    """Hex digest that is equal where models with these prompts make the same token ids of all texts."""
    tower = towers_of(model)[0]
    first: Any = tower[0]
    prompts = repr((_resolved(model, prompt), tower.prompts.get(tower.default_prompt_name or "")))
    if isinstance(first, StaticEmbedding):
        return key_of("static", prompts, first.tokenizer.to_str())
    wrapped = first.tokenizer.tokenizer
    rules = json.loads(wrapped.backend_tokenizer.to_str())
    rules |= {"padding": None, "truncation": None}  # it sets them at each call
    kind = (type(wrapped).__name__, getattr(wrapped, "split_special_tokens", None), first.max_seq_length)
    return key_of("words", prompts, repr(kind), json.dumps(rules))


def _resolved(model: SentenceTransformer, prompt: str | None) -> str | None:
    """The prompt, or the model's default one; None where there is none."""
    return (model.prompts.get(model.default_prompt_name or "") if prompt is None else prompt) or None


def _digest(texts: Sequence[str]) -> str:
    """Hex digest of the texts in their order."""
    digest = hashlib.blake2b(np.array([len(text) for text in texts], dtype=np.int64).tobytes(), digest_size=16)
    digest.update("".join(texts).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _tokenize(
    model: SentenceTransformer, texts: Sequence[str], prompt: str | None
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Ids of all the texts, flat, and where each begins, ``[texts + 1]``: what the model makes of them itself."""
    ids, lengths = [], []
    for start in range(0, len(texts), CHUNK):
        features = model.preprocess(list(texts[start : start + CHUNK]), prompt=_resolved(model, prompt))
        flat = features["input_ids"]
        if "offsets" in features:
            lengths.append(np.diff(features["offsets"].numpy(), append=len(flat)))
        else:
            lengths.append(features["sentence_lengths"].numpy())
            flat = flat[features["attention_mask"].bool()]
        ids.append(flat.numpy().astype(np.int32))
    return np.concatenate(ids), np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)


def _opened(folder: Path, texts: int) -> Tokens | None:
    """The ids of this number of texts in a folder; None if they are not there or not whole."""
    try:
        ids, offsets = (np.load(folder / f"{name}.npy", allow_pickle=False) for name in ("ids", "offsets"))
    except (OSError, ValueError, EOFError):
        return None
    is_complete = len(offsets) == texts + 1 and offsets[-1] == len(ids)
    return Tokens(ids, offsets) if is_complete else None
