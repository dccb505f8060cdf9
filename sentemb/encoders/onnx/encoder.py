"""An encoder that onnxruntime computes: a tokenizer, and a graph from token ids to sentence embeddings.

``python -m sentemb.export RUN --format onnx`` writes its folder: the graph, ``tokenizer.json``, which cuts and pads,
and a config. Whoever has onnxruntime and tokenizers can use these files without torch.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers.base.modules import InputModule
from tokenizers import Tokenizer

from sentemb.encoders.safety import read_json
from sentemb.errors import InputError, in_a_line
from sentemb.storage import digest

ONNX = "onnx"  # the folder of a graph, in that of its model
GRAPH, ONNX_TOKENIZER, ONNX_CONFIG = "model.onnx", "tokenizer.json", "onnx_config.json"
ONNX_INPUTS, ONNX_OUTPUT = ("input_ids", "attention_mask"), "sentence_embedding"  # of the graph
ONNX_INSTALL = "pip install 'sentemb[onnx]'"


class OnnxEncoder(InputModule):
    """Module that is an encoder by itself: texts to sentence embeddings by onnxruntime, on CPUs.

    Args:
        folder: with model.onnx, tokenizer.json and onnx_config.json.

    Raises:
        InputError: onnxruntime is not installed, or a file is missing or damaged.
    """

    save_in_root = False
    config_keys: list[str] = ["dimension", "precision", "sha256"]
    config_file_name: str = ONNX_CONFIG

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder.absolute()
        self._session: Any = _session(self.folder / GRAPH)
        config = read_json(folder / ONNX_CONFIG)
        try:
            self.dimension, self.precision, self.sha256 = (config[key] for key in self.config_keys)
            self.tokenizer = Tokenizer.from_file(str(folder / ONNX_TOKENIZER))
            self.normalised = bool(config.get("normalised", False))
            digest_bytes = list(bytes.fromhex(self.sha256))
        except Exception as error:  # (tokenizers raises the base class)
            raise InputError(f"{folder} cannot be loaded: {in_a_line(error)}; copy it again") from error
        # A graph's weights are not parameters: this tells one graph from another where embeddings are cached.
        self.register_buffer("digest", torch.tensor(digest_bytes, dtype=torch.uint8))

    def preprocess(self, inputs: Sequence[Any], prompt: str | None = None, **more: Any) -> dict[str, Any]:
        """Token ids and the mask of those that count, each ``[n, T]`` int64, of texts."""
        encodings = self.tokenizer.encode_batch_fast([(prompt or "") + text for text in inputs])
        rows = ([e.ids for e in encodings], [e.attention_mask for e in encodings])
        arrays = [np.array(row, dtype=np.int64).reshape(len(encodings), -1) for row in rows]
        if not arrays[0].shape[1]:  # no text has a token
            arrays = [np.zeros((len(encodings), 1), dtype=np.int64)] * 2
        return {name: torch.from_numpy(array) for name, array in zip(ONNX_INPUTS, arrays, strict=True)}

    def forward(self, features: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` ``[n, d]``, float32."""
        if self._session is None:
            self._session = _session(self.folder / GRAPH)
        (embeddings,) = self._session.run([ONNX_OUTPUT], {name: features[name].cpu().numpy() for name in ONNX_INPUTS})
        return features | {ONNX_OUTPUT: torch.from_numpy(embeddings)}

    @property
    def pad_id(self) -> int:
        """The token id behind a row's end."""
        return int((self.tokenizer.padding or {}).get("pad_id", 0))

    @property
    def max_seq_length(self) -> int | None:
        """In tokens; None: texts are not cut."""
        return self.tokenizer.truncation["max_length"] if self.tokenizer.truncation else None

    @max_seq_length.setter
    def max_seq_length(self, value: int) -> None:
        self.tokenizer.enable_truncation(value)

    def get_embedding_dimension(self) -> int:
        """Of the sentence embedding."""
        return int(self.dimension)

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **more: Any) -> None:
        """Copy the graph, its tokenizer as it is now, and the config."""
        for path in [
            *self.folder.glob(f"{GRAPH}*"),
            self.folder / ONNX_CONFIG,
        ]:  # (large graphs have their weights apart)
            shutil.copyfile(path, Path(output_path) / path.name)
        self.tokenizer.save(str(Path(output_path) / ONNX_TOKENIZER))

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **more: Any) -> "OnnxEncoder":  # type: ignore[override]
        """The module in a folder; ``more`` as ``SentenceTransformer(path, trust_remote_code=True)`` passes it."""
        where = {key: more[key] for key in ("token", "cache_folder", "revision", "local_files_only") if key in more}
        folder = cls.load_dir_path(model_name_or_path, subfolder, **where)
        return cls(Path(str(folder)))

    def __getstate__(self) -> dict[str, Any]:
        """Without the session, which cannot be copied nor sent to another process; each opens one itself."""
        return self.__dict__ | {"_session": None}


def write_onnx_config(folder: Path, dimension: int, precision: str, normalised: bool) -> None:
    """Describe the graph in ``folder``, for :class:`OnnxEncoder`; ``normalised``: its embeddings have length 1."""
    content = {"dimension": dimension, "precision": precision, "sha256": digest(folder / GRAPH, "sha256")}
    content["normalised"] = normalised
    (folder / ONNX_CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _session(graph: Path) -> Any:
    try:
        import onnxruntime as runtime
    except ImportError:
        raise InputError(f"an encoder in ONNX needs onnxruntime, which is not installed; {ONNX_INSTALL}") from None
    options = runtime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = torch.get_num_threads(), 3
    try:
        return runtime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's classes
        raise InputError(f"{graph} cannot be loaded: {in_a_line(error)}; export it again") from error
