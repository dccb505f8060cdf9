"""Adapters: a layer's weight plus a product of two small matrices, seen by every forward, merged where it is saved."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import nn

import sentemb
from recipes import train_bookcorpus
from sentemb.encoders import (
    LoraAdapters,
    adapted_layers,
    copy_without_adapters,
    parse_lora,
    tokenizer_of,
    two_towers,
    without_adapters,
)
from sentemb.encoders.fine_tuning import lora
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, collate_tokens
from sentemb.objectives import InfoNCE
from tests.devices import SINGLE
from tests.helpers import STATIC, records, torchrun
from tests.pipeline.test_teacher import DOCUMENTS, LITTLE
from tests.training.test_loop import TESTS, same
from tests.two_processes import hash_of, trained

pytest.importorskip("peft", reason="adapters need peft (the extra lora)")

SPEC = "transformer:name=TINY,dropout=0"
TEXTS = ["It was an uncertain spring.", "Hello!", "The rain went on, and on."]


@pytest.fixture(autouse=True)
def caches(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def start(encoder, tmp_path) -> str:
    """The folder of a finished model of two small layers."""
    encoder(SPEC, max_length=40).save(str(tmp_path / "start"), create_model_card=False)
    return "start"


def adapted(model: SentenceTransformer, options: str) -> LoraAdapters:
    """Adapters of a model, with second matrices that are no longer zero."""
    adapters = LoraAdapters(model, parse_lora(options))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.2)
    return adapters


def weights_by_loops(model: SentenceTransformer, rank: int, alpha: float) -> dict[str, torch.Tensor]:
    """The state of a plain model: W + alpha / rank * B A, summed in loops."""
    state: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        if ".lora_" not in name:
            state[name.replace(".base_layer", "")] = value.clone()
    for name in [name for name in model.state_dict() if ".lora_A" in name]:
        a, b = (model.state_dict()[name.replace("lora_A", matrix)].double() for matrix in ("lora_A", "lora_B"))
        weight = state[name.partition(".lora_A")[0] + ".weight"]
        for i in range(len(weight)):
            for j in range(weight.shape[1]):
                weight[i, j] += alpha / rank * sum(float(b[i, k] * a[k, j]) for k in range(rank))
    return state


@pytest.mark.parametrize("targets", ["all", "query+value"])
def test_every_forward_and_the_saved_model_are_those_of_the_weights_with_the_products_added(targets, encoder, tmp_path):
    model, expected = encoder(SPEC), encoder(SPEC)
    before = model.encode(TEXTS)
    adapted(model, f"rank=2,alpha=3,targets={targets}")
    expected.load_state_dict(weights_by_loops(model, 2, 3.0))
    embeddings = expected.encode(TEXTS)
    assert np.abs(embeddings - before).max() > 0.01
    np.testing.assert_allclose(model.encode(TEXTS), embeddings, atol=SINGLE)
    rows = [np.array(encoding.ids) for encoding in tokenizer_of(model).encode_batch(TEXTS)]
    for attention in ("packed", "padded"):
        with torch.no_grad():
            seen = TrainingEncoder(model.eval(), attention=attention)(collate_tokens(model, rows))
        np.testing.assert_allclose(seen.numpy(), embeddings, atol=SINGLE)
    with without_adapters(model):
        model.save(str(tmp_path / "model"), create_model_card=False)
    code = "import sys; sys.modules['peft'] = None; from sentence_transformers import SentenceTransformer as S\n"
    code += "import numpy, json; numpy.save(sys.argv[2], S(sys.argv[1], device='cpu').encode(json.loads(sys.argv[3])))"
    arguments = [str(tmp_path / "model"), str(tmp_path / "seen.npy"), json.dumps(TEXTS)]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)
    np.testing.assert_allclose(np.load(tmp_path / "seen.npy"), embeddings, atol=SINGLE)


def test_a_model_begins_as_it_was_and_only_its_adapters_learn(encoder):
    model = encoder(SPEC + ",mlp=true")
    before = model.encode(TEXTS)
    adapters = LoraAdapters(model, parse_lora("rank=2"))
    np.testing.assert_array_equal(model.encode(TEXTS), before)
    trained_names = {name for name, weight in model.named_parameters() if weight.requires_grad}
    matrices = {name for name in trained_names if ".lora_A." in name or ".lora_B." in name}
    assert trained_names - matrices == {"2.linear.weight", "2.linear.bias"}  # behind the transformer
    # six linear layers in each of two: four of 32 x 32, 32 x 64 and 64 x 32
    of_matrices = 2 * (4 * (2 * 32 + 32 * 2) + 2 * (2 * 32 + 64 * 2))
    assert (adapters.layers, adapters.trained) == (12, of_matrices + 32 * 32 + 32)
    assert adapters.all == sum(weight.numel() for weight in model.parameters())


def test_without_adapters_meanwhile_and_with_the_same_ones_afterwards(encoder):
    model = encoder(SPEC)
    adapted(model, "rank=2")
    layers, state = list(adapted_layers(model)), copy.deepcopy(model.state_dict())
    embeddings = model.encode(TEXTS)
    with without_adapters(model):
        assert adapted_layers(model) is None and not any("lora" in name for name in model.state_dict())
        np.testing.assert_allclose(model.encode(TEXTS), embeddings, atol=SINGLE)
    assert [a is b for a, b in zip(adapted_layers(model), layers, strict=True)] == [True] * 12
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    copied = copy_without_adapters(model)
    assert adapted_layers(copied) is None and adapted_layers(model) is not None
    np.testing.assert_allclose(copied.encode(TEXTS), embeddings, atol=SINGLE)


def test_merged_adapters_are_gone_and_the_weights_are_trained_again(encoder):
    model = encoder(SPEC)
    names = {name: weight.requires_grad for name, weight in model.named_parameters()}
    adapters = adapted(model, "rank=2")
    embeddings = model.encode(TEXTS)
    for _ in range(2):
        adapters.merge()
        np.testing.assert_allclose(model.encode(TEXTS), embeddings, atol=SINGLE)
    assert {name: weight.requires_grad for name, weight in model.named_parameters()} == names
    assert not hasattr(model[0].auto_model, "peft_config")
    LoraAdapters(model, parse_lora("rank=1")).merge()  # it can have others


def test_two_towers_have_adapters_each(encoder):
    model = two_towers(encoder(SPEC), encoder(SPEC))
    assert LoraAdapters(model, parse_lora("rank=2,targets=query")).layers == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("rank=0", "rank must be at least 1"),
        ("rank=two", "option 'rank' of setting 'lora' is a whole number"),
        ("ranks=2", "did you mean 'rank'"),
        ("rank", "is not key=value; write rank=8,alpha=16"),
        ("alpha=0", "alpha must be a positive number"),
        ("dropout=1", "dropout must lie in"),
        ("targets=query+nope", "names the layer 'nope', and BertModel has no .* dense, key, query, value"),
    ],
)
def test_options_that_cannot_be_are_refused(options, message, encoder):
    with pytest.raises(InputError, match=message):
        LoraAdapters(encoder(SPEC), parse_lora(options))


def test_other_encoders_and_a_missing_library_are_refused(encoder, monkeypatch):
    with pytest.raises(InputError, match="for transformer encoders, and this one begins with StaticEmbedding"):
        LoraAdapters(encoder(STATIC), parse_lora("rank=2"))
    monkeypatch.setattr(lora.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs the library peft; pip install 'sentemb\[lora\]'"):
        parse_lora("rank=2")


# ---- training


def test_two_processes_train_adapters_as_one(tmp_path, tiny):
    case = f"transformer:name={tiny}|infonce|rank=2"
    done = torchrun(str(TESTS / "two_processes.py"), str(tmp_path), case, cwd=TESTS.parent)
    assert done.returncode == 0, done.stderr[-3000:]
    encoder, objective, options = case.split("|")
    one = trained(encoder, objective, Accelerator(cpu=True), lora=options)
    same(torch.load(tmp_path / f"{hash_of(case)}.pt"), one)
    assert one["gradients"] and all(".lora_" in name for name in one["gradients"])
    same(trained(encoder, objective, Accelerator(cpu=True), micro_batch=2, lora=options), one)


def test_micro_batches_train_the_same_adapters(job):
    more = {"spec": SPEC, "lora": "rank=2", "max_steps": 4}
    together, parts = job("a", **more), job("b", micro_batch=3, **more)
    for a, b in zip(records(together), records(parts), strict=True):
        assert b["loss"] == pytest.approx(a["loss"], rel=1e-4)
    assert sentemb.load(together).encode(TEXTS) == pytest.approx(sentemb.load(parts).encode(TEXTS), abs=1e-4)


def train(start, **more):
    return sentemb.train(DOCUMENTS, **{"init": start, "lora": "rank=2", **LITTLE, **more})


def test_a_run_saves_a_plain_model_whose_other_weights_are_the_starts(start, capsys):
    run = train(start, out="run", lora="rank=2,alpha=8,targets=query+value", eval_every=2, select="best")
    assert "LoRA in 4 linear layers: 512 of " in capsys.readouterr().out
    about = json.loads(Path("run", "config.json").read_text())
    assert about["encoder"]["trainable"] == 512 and about["versions"]["peft"]
    begun = SentenceTransformer(start, device="cpu")
    for folder in ("model", "last", "best", "checkpoints/step-4"):
        plain_model = SentenceTransformer(str(Path("run", folder)), device="cpu")
        changed = {
            name for name, value in plain_model.state_dict().items() if not torch.equal(value, begun.state_dict()[name])
        }
        assert folder == "best" or changed and all(name.split(".")[-2] in ("query", "value") for name in changed)
    assert adapted_layers(run.model) is None and adapted_layers(run.initial) is None
    assert np.array_equal(run.initial.encode(TEXTS), begun.encode(TEXTS))
    assert run.scores["alignment"].notna().all()


def test_a_resumed_run_ends_as_one_in_one_go_also_where_the_start_has_changed(start, encoder):
    options = {"lora": "rank=2,dropout=0.1", "pairs": "dropout", "micro_batch": 4}
    straight = train(start, out="straight", **options)
    train(start, out="resumed", max_steps=2, **options)
    torch.manual_seed(5)
    changed = encoder(SPEC, max_length=40)
    with torch.no_grad():
        for weight in changed.parameters():
            weight.add_(0.1)
    changed.save(start, create_model_card=False)  # (the checkpoint holds all of the model)
    run = train(start, out="resumed", resume=True, **options)
    assert np.array_equal(run.model.encode(TEXTS), straight.model.encode(TEXTS))
    assert np.array_equal(sentemb.load("resumed").encode(TEXTS), run.model.encode(TEXTS))
    with pytest.raises(InputError, match="started with --lora rank=2,dropout=0.1, not rank=3"):
        train(start, out="resumed", resume=True, **options | {"lora": "rank=3", "max_steps": 6})


def test_the_callers_model_is_trained_in_place_and_left_without_adapters_also_by_a_failure(encoder):
    model = encoder(SPEC, max_length=40)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    run = sentemb.train(DOCUMENTS, encoder=model, lora="rank=2", **LITTLE)
    assert run.model is model and adapted_layers(model) is None
    assert any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())

    class Failing(InfoNCE):
        def loss(self, x, y, extras):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        sentemb.train(DOCUMENTS, encoder=model, lora="rank=2", objective=Failing(), **LITTLE)
    assert adapted_layers(model) is None and all(
        weight.requires_grad for name, weight in model.named_parameters() if "pooler" not in name
    )


def test_a_command_refuses_what_cannot_have_adapters_in_one_sentence(book_file, capsys):
    for options, message in (
        (["--encoder", "rnn", "--lora", "rank=2"], "--encoder rnn is not one of them"),
        (["--init", "minilm", "--lora", "rank=-1"], "rank must be at least 1"),
    ):
        with pytest.raises(SystemExit) as ended:
            train_bookcorpus.main(["--corpus", str(book_file), "--out", "run", *options])
        last = capsys.readouterr().err.strip().splitlines()[-1]
        assert ended.value.code == 2 and last.startswith("error: ") and message in last
    assert not Path("run").exists()
