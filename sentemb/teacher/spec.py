"""``--teacher NAME:layers=,pooling=,prompt=,scale=,dim=`` and ``--guide NAME:margin=,...``, without anything heavy."""

import re
from dataclasses import dataclass
from functools import partial

from sentemb.errors import InputError
from sentemb.registry import absolute, build, choose, parse, quoted

POOLINGS = {"mean": "mean", "max": "max", "cls": "cls", "last": "lasttoken"}  # and their names in the stock Pooling


@dataclass(frozen=True)
class TeacherSpec:
    """What is asked of a teacher.

    Args:
        name: a folder, a name of the hub, or minilm.
        layers: ``A-B`` or ``A``, numbered as transformers' hidden_states: 0 are the word embeddings, 1 the first layer.
            The pooled states of these layers stand side by side, A's first. Left out: the last layer where a pooling
            is named, else the teacher's output as ``encode`` gives it.
        pooling: of the layers' states: mean, max, cls or last. Left out: mean.
        prompt: text before each sentence. Left out: the teacher's default prompt, as ``encode`` takes it.
        scale: none, or standard: each dimension gets mean 0 and variance 1 over the sentences, so that all weigh alike
            (a transformer's layers have a few dimensions with large numbers).
        dim: the embeddings' number of first principal components; 0: the embeddings as they are.

    Raises:
        ValueError: layers that are no such range, a negative dim. InputError: another pooling or scale.
    """

    name: str
    layers: str = ""
    pooling: str = ""
    prompt: str | None = None
    scale: str = "none"
    dim: int = 0

    def __post_init__(self) -> None:
        if self.pooling:
            choose("pooling", self.pooling, POOLINGS)
        if self.layers and self.layer_range is None:
            raise ValueError(f"layers are A-B or A, whole numbers with A not above B, got {self.layers!r}")
        choose("scale", self.scale, ("none", "standard"))
        if self.dim < 0:
            raise ValueError(f"dim must be at least 1, or 0 for all dimensions, got {self.dim}")

    @property
    def layer_range(self) -> range | None:
        """The layers' numbers; None where none are named."""
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", self.layers)
        if match is None or int(match[2] or match[1]) < int(match[1]):
            return None
        return range(int(match[1]), int(match[2] or match[1]) + 1)

    @property
    def uses_hidden_states(self) -> bool:
        """Whether it is layers' hidden states that are wanted, and not the teacher's output."""
        return bool(self.layers or self.pooling)

    @property
    def projects(self) -> bool:
        """Whether the targets are another scale or fewer dimensions than the embeddings."""
        return self.scale != "none" or self.dim > 0


@dataclass(frozen=True)
class GuideSpec:
    """What is asked of a guide.

    Args:
        name, layers, pooling, prompt: see :class:`TeacherSpec`.
        margin: of the cosine: how much nearer than the positive a candidate has to be at least, negated: above 0
            candidates that are a little less near are left out, too.
        relative_margin: the same as a share of the positive's cosine.

    Raises:
        ValueError, InputError: see :class:`TeacherSpec`.
    """

    name: str
    margin: float = 0.0
    relative_margin: float = 0.0
    layers: str = ""
    pooling: str = ""
    prompt: str | None = None

    def __post_init__(self) -> None:
        _ = self.model

    @property
    def model(self) -> TeacherSpec:
        """The model, and what is asked of its embeddings."""
        return TeacherSpec(self.name, self.layers, self.pooling, self.prompt)


def parse_teacher(spec: str) -> TeacherSpec:
    """A teacher from its spec; nothing is opened.

    Raises:
        InputError: it names no teacher, or an option that there is not.
    """
    made = _parsed(spec, TeacherSpec, "teacher")
    assert isinstance(made, TeacherSpec)
    return made


def parse_guide(spec: str) -> GuideSpec:
    """A guide from its spec; nothing is opened.

    Raises:
        InputError: it names no guide, or an option that there is not.
    """
    made = _parsed(spec, GuideSpec, "guide")
    assert isinstance(made, GuideSpec)
    return made


def _parsed(spec: str, kind: type, role: str) -> object:
    name = parse(spec)[0]
    if not name:
        example = "layers=3-6" if role == "teacher" else "margin=0.05"
        raise InputError(f"--{role} {spec!r} names no {role}; write NAME or NAME:{example}")
    return build({name: partial(kind, name)}, spec, role)


def absolute_teacher(spec: str) -> str:
    """``spec`` of a teacher or guide with its folder, where it is one, by its absolute path."""
    name, options = parse(spec)
    if name == "minilm":  # which is built in
        return spec
    listed = ",".join(f"{key}={quoted(text)}" for key, text in options.items())
    return absolute(name) + (f":{listed}" if listed else "")
