"""Encoders: training forward = saved model's encode, plain loading anywhere, and clear errors."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

from sentemb.encoders import ENCODERS, HEADS, NamedTexts, load, mean_of_word_embeddings, minilm_folder, tokenizer_of
from sentemb.encoders.word_embeddings import _tell
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder, collate_tokens
from sentemb.forward.recurrent import padded_recurrence
from sentemb.registry import absolute_paths, build
from tests.conftest import SENTENCES
from tests.devices import DEVICE, DOUBLE, SINGLE, normal, numbers

STOCK = [
    "rnn:hidden=16",
    "rnn:hidden=12,layers=2,pooling=max",
    "rnn:hidden=12,bidirectional=no,pooling=last",
    "rnn:hidden=12,bidirectional=no,pooling=final",
    "rnn:hidden=7,layers=2,pooling=mean+max",
    "rnn:hidden=8,embeddings=random,vocabulary=300,dim=10",
    "static",
    "static:embeddings=random,vocabulary=300,dim=10",
    "transformer",
    "transformer:pooling=cls",
    "transformer:pooling=last",
    "transformer:pooling=first_last",
    "rnn:hidden=8,out=3",
    "static:embeddings=random,vocabulary=300,dim=10,out=2",
    "transformer:out=5",
    "transformer:keep_layers=2+3+6,pooling=cls",
]
GRU = [
    "rnn:cell=gru,hidden=8,out=3",
    "rnn:cell=gru,hidden=12,layers=2",
    "rnn:cell=gru,hidden=8,bidirectional=no,pooling=max",
    "rnn:cell=gru,hidden=8,layers=2,pooling=final",
    "rnn:hidden=8,pooling=final,out=3",
    "rnn:hidden=8,skip=mean",
    "rnn:cell=gru,hidden=6,layers=2,pooling=mean+max,skip=max+mean,out=4",
    "rnn:hidden=8,bidirectional=no,pooling=final,skip=mean",
]


def trained_forward(model, sentences, max_length=12):
    tokenizer = tokenizer_of(model)
    tokenizer.enable_truncation(max_length)
    rows = [np.array(encoded.ids) for encoded in tokenizer.encode_batch_fast(sentences)]
    model.eval()
    with torch.no_grad():
        features = {name: value.to(model.device) for name, value in collate_tokens(model, rows).items()}
        return TrainingEncoder(model)(features).cpu().numpy()


@numbers
@pytest.mark.parametrize("spec", STOCK + GRU)
def test_training_forward_equals_encode_and_the_saved_model(spec, encoder, tmp_path):
    model = encoder(spec).to(DEVICE)
    expected = model.encode(SENTENCES)
    assert np.isfinite(expected).all() and len(expected) == len(SENTENCES)
    assert np.abs(trained_forward(model, SENTENCES) - expected).max() < SINGLE
    model.save(str(tmp_path / "model"))
    for device in {"cpu", str(DEVICE)}:  # 1e-6 on one machine: DESIGN's contract
        again = load(tmp_path / "model", device=device).encode(SENTENCES)
        assert np.abs(again - expected).max() < (1e-6 if device == str(DEVICE) else SINGLE)


@numbers
@pytest.mark.parametrize("spec", STOCK)
def test_long_sentences_are_cut_alike(spec, encoder):
    model = encoder(spec, max_length=5).to(DEVICE)
    assert np.abs(trained_forward(model, SENTENCES, 5) - model.encode(SENTENCES)).max() < SINGLE


def test_checkpoints_load_where_sentemb_cannot_be_imported(encoder, tmp_path):
    specs = ["rnn:hidden=16", *STOCK[2:5], "static", "transformer", "transformer:pooling=first_last"]
    for number, spec in enumerate(specs):
        model, folder = encoder(spec), tmp_path / f"model-{number}"
        model.save(str(folder))
        types = [row["type"] for row in json.loads((folder / "modules.json").read_text())]
        assert all(name.startswith("sentence_transformers.") for name in types)
        np.save(tmp_path / f"expected-{number}.npy", model.encode(SENTENCES))
    code = (
        "import sys; sys.modules['sentemb'] = None\n"
        "import numpy as np; from sentence_transformers import SentenceTransformer\n"
        f"for number in range({len(specs)}):\n"
        f"    got = SentenceTransformer(f'model-{{number}}', device='cpu').encode({SENTENCES!r})\n"
        "    assert np.abs(got - np.load(f'expected-{number}.npy')).max() < 1e-6"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, timeout=120)


@numbers
@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
@pytest.mark.parametrize("layers", [1, 3])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_padded_recurrence_equals_the_packed_one_and_so_do_gradients(kind, layers, bidirectional):
    torch.manual_seed(0)
    net = getattr(torch.nn, kind)(5, 4, layers, batch_first=True, bidirectional=bidirectional).double().to(DEVICE)
    x, lengths = normal(6, 7, 5), torch.tensor([7, 1, 3, 7, 5, 2])
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected = torch.nn.utils.rnn.pad_packed_sequence(net(packed)[0], batch_first=True)[0]
    mask = (torch.arange(7) < lengths[:, None])[:, :, None].to(DEVICE)
    got = padded_recurrence(net, x, lengths) * mask
    assert torch.allclose(got, expected, atol=DOUBLE)
    slopes = [torch.autograd.grad(out.square().sum(), net.parameters()) for out in (got, expected)]
    assert all(torch.allclose(a, b, atol=DOUBLE) for a, b in zip(*slopes, strict=True))


def test_pretrained_embeddings_are_frozen_and_random_ones_are_trained(encoder):
    assert not encoder("rnn:hidden=4")[0].emb_layer.weight.requires_grad
    assert encoder("rnn:hidden=4,train_embeddings=true")[0].emb_layer.weight.requires_grad
    assert encoder("rnn:hidden=4,embeddings=random,dim=4,vocabulary=270")[0].emb_layer.weight.requires_grad


def test_a_vocabulary_is_learned_once(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path))
    read = []

    def texts():
        read.append(1)
        return SENTENCES

    spec, named_texts = "static:embeddings=random,dim=3,vocabulary=270", NamedTexts(texts, "these")
    first, again, other = (
        build(ENCODERS, spec, "encoder", texts=t, max_length=9)
        for t in (named_texts, named_texts, NamedTexts(texts, "others"))
    )
    assert len(read) == 2 and tokenizer_of(first).to_str() == tokenizer_of(again).to_str()
    assert tokenizer_of(other).to_str() == tokenizer_of(first).to_str()  # (of the same text)
    for path in tmp_path.glob("vocabularies/*/tokenizer.json"):
        path.write_text("damaged")
    assert build(ENCODERS, spec, "encoder", texts=named_texts, max_length=9).encode("Hello!").shape == (3,)


def test_out_is_a_linear_layer(encoder):
    model = encoder("static:embeddings=random,dim=6,vocabulary=270,out=2")
    layer, words = model[-1].linear, torch.nn.Sequential(*list(model)[:-1])
    features = words(model.preprocess(SENTENCES))["sentence_embedding"]
    expected = features @ layer.weight.T + layer.bias
    np.testing.assert_allclose(model.encode(SENTENCES), expected.detach(), atol=1e-6)


def test_one_seed_one_encoder(encoder):
    spec = "rnn:hidden=4,embeddings=random,dim=6,vocabulary=270"
    assert np.array_equal(encoder(spec).encode(SENTENCES), encoder(spec).encode(SENTENCES))


def test_averaged_is_the_mean_of_the_input_embeddings(encoder):
    model = encoder("rnn:hidden=4,embeddings=random,dim=6,vocabulary=270")
    table = model[0].emb_layer.weight.detach().numpy()
    ids = tokenizer_of(model).encode(SENTENCES[4]).ids[:12]
    assert np.allclose(mean_of_word_embeddings(model).encode(SENTENCES[4]), table[ids].mean(axis=0), atol=1e-6)
    assert mean_of_word_embeddings(encoder("transformer")).encode(SENTENCES).shape == (6, 384)


def test_word_embeddings_from_a_text_file(encoder, tmp_path):
    file = tmp_path / "glove.txt"
    file.write_text("the 1 0\nrain 0 1\nhello 1 1\n")
    got = encoder(f"static:embeddings={file}").encode(["Hello", "the rain", ""])
    assert np.allclose(got, [[1, 1], [0.5, 0.5], [0, 0]])
    for text, message in [("the 1 0\nrain 1\n", "line 2 has 1 numbers"), ("the x\n", "line 1"), ("", "holds no word")]:
        file.write_text(text)
        with pytest.raises(InputError, match=message):
            encoder(f"static:embeddings={file}")


def test_word_embeddings_of_another_model(encoder):
    a = encoder(f"static:embeddings={minilm_folder()}").encode(SENTENCES)
    assert np.array_equal(a, encoder("static:embeddings=minilm").encode(SENTENCES))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rnn:cell=gruu", "did you mean 'gru'"),
        ("rnn:pooling=last", "bidirectional=false"),
        ("static:out=-1", "out must be at least 1"),
        ("rnn:hidden=0", "hidden must be at least 1"),
        ("rnn:pooling=cls", "unknown pooling 'cls'"),
        ("rnn:embeddings=no/such", "is not a file or folder"),
        ("rnn:train_embeddings=maybe", "unknown train_embeddings"),
        ("static:embeddings=random,dim=0", "dim must be at least 1"),
        ("transformer:name=no-such-org/no-such-model", "without a network choose"),
        ("transformer:name=TINY,pooling=middle", "unknown pooling 'middle'.*valid: cls, first_last, last, max, mean"),
        ("transformer:name=TINY,pooling=first_last+cls", "joins first_last to others"),
        ("transformer:name=TINY,keep_layers=2", "keep_layers is A-B or A.B.C, .*got '2'; write keep_layers=1-3"),
        ("transformer:name=TINY,keep_layers=2-1", "keep_layers is A-B"),
        ("transformer:name=TINY,keep_layers=0-1", "keep_layers=0-1 names layer 0, and the layers are 1 to 2"),
        ("transformer:name=TINY,keep_layers=1+3", "names layer 3, and the layers are 1 to 2"),
        ("transformer:name=TINY,keep_layers=1+1", "a layer twice or out of order"),
        ("transformer:name=TINY,keep_layers=2+1", "a layer twice or out of order"),
        ("lstm", "unknown encoder 'lstm'.*valid: rnn, static, transformer"),
    ],
)
def test_impossible_encoders_are_refused(spec, message, encoder):
    with pytest.raises(InputError, match=message) as caught:
        encoder(spec)
    assert "\n" not in str(caught.value)


class TestLoad:
    @pytest.fixture
    def saved(self, encoder, tmp_path):
        def save(spec):
            encoder(spec).save(str(tmp_path / "model"), create_model_card=False)
            return tmp_path / "model"

        return save

    def test_a_folder_that_is_no_checkpoint(self, tmp_path):
        with pytest.raises(InputError, match="no modules.json"):
            load(tmp_path)

    def test_a_name_that_is_nowhere(self):
        with pytest.raises(InputError, match="without a network choose"):
            load("no-such-org/no-such-model")

    def test_a_run_folder_means_its_model(self, saved):
        model = saved("static:embeddings=random,vocabulary=270,dim=4")
        assert np.array_equal(load(model.parent).encode("hello"), load(model).encode("hello"))

    @pytest.mark.parametrize("spec", ["rnn:hidden=4", "rnn:hidden=4,cell=gru", "transformer", "static"])
    def test_a_missing_weight_is_named(self, spec, saved):
        model = saved(spec)
        (file, *_) = sorted(model.rglob("model.safetensors"), key=lambda path: path.stat().st_size)
        weights = load_file(file)
        # what encode needs, whichever the encoder: the last in order of names that is not a position table
        lost = sorted(name for name in weights if "pooler" not in name)[-1]
        save_file({k: v for k, v in weights.items() if k != lost}, file, metadata={"format": "pt"})
        named = lost if spec != "static" else "embedding"
        with pytest.raises(InputError, match=re.escape(named)):
            load(model)

    @pytest.mark.parametrize("damage", ["cut", "gone"])
    @pytest.mark.parametrize("spec", ["rnn:hidden=4", "rnn:hidden=4,cell=gru"])
    def test_damaged_or_missing_files(self, spec, damage, saved):
        model = saved(spec)
        for file in sorted(model.rglob("model.safetensors")):
            shutil.copytree(model, model.parent / "copy", dirs_exist_ok=True)
            copy = model.parent / "copy" / file.relative_to(model)
            copy.write_bytes(copy.read_bytes()[:100]) if damage == "cut" else copy.unlink()
            with pytest.raises(InputError):
                load(model.parent / "copy")


def test_layers_that_are_left_are_those_of_the_model(encoder):
    full, cut = encoder("transformer:dropout=0.2"), encoder("transformer:keep_layers=1-3,dropout=0.2")
    features = full[0].preprocess(SENTENCES)
    states = full[0].auto_model.eval()(**features, output_hidden_states=True).hidden_states
    assert torch.allclose(cut[0].auto_model.eval()(**features).last_hidden_state, states[3], atol=1e-6)
    assert cut[0].auto_model.config.num_hidden_layers == 3
    weights = [encoder(spec)[0].auto_model.state_dict() for spec in ("transformer", "transformer:keep_layers=2+6")]
    for mine, source in ((0, 1), (1, 5)):
        place = "encoder.layer.{}.output.dense.weight"
        assert torch.equal(weights[1][place.format(mine)], weights[0][place.format(source)])


def test_layers_that_depend_on_their_places_are_not_taken_apart(tmp_path, tiny):
    """T5's first layer alone has the biases of relative positions; Albert's layers are one."""
    from transformers import AlbertConfig, AlbertModel, AutoTokenizer, T5Config, T5EncoderModel

    sizes = {"d_model": 16, "d_kv": 8, "num_heads": 2, "d_ff": 16, "num_layers": 3}
    little = {"embedding_size": 8, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}
    models = {
        "t5": T5EncoderModel(T5Config(vocab_size=30_522, **sizes)),
        "albert": AlbertModel(AlbertConfig(vocab_size=30_522, num_hidden_layers=3, **little)),
    }
    for (name, model), message in zip(models.items(), ("depend on their places", "has no list of layers"), strict=True):
        model.save_pretrained(tmp_path / name)
        AutoTokenizer.from_pretrained(tiny).save_pretrained(tmp_path / name)
        with pytest.raises(InputError, match=f"{message}.*leave keep_layers out"):
            build(ENCODERS, f"transformer:name={tmp_path / name},keep_layers=2-3", "encoder", max_length=12)
    assert build(ENCODERS, f"transformer:name={tmp_path / 't5'},keep_layers=1-2", "encoder", max_length=12)


def test_an_option_of_every_encoder_is_documented():
    for factory in ENCODERS.values():
        code = factory.__code__
        for name in code.co_varnames[: code.co_argcount]:
            assert f"{name}:" in (factory.__doc__ or "") or "as for" in (factory.__doc__ or ""), (factory, name)


def test_build_passes_texts_only_where_they_are_taken():
    assert build(ENCODERS, "transformer", texts=None, max_length=8).max_seq_length == 8


def test_no_option_is_ignored(encoder):
    for spec in ("rnn:dim=7", "static:embeddings=minilm,vocabulary=300", "rnn:embeddings=auto,vocabulary=300"):
        with pytest.raises(InputError, match="is for embeddings=random, and embeddings=(auto, which is )?minilm"):
            encoder(spec)
    assert encoder("static:embeddings=random,dim=7,vocabulary=270").get_embedding_dimension() == 7
    with pytest.raises(InputError, match="hidden=3 applies to the layers between"):
        build(HEADS, "projection:hidden=3,layers=1", "head", dimension=4)


def test_minilm_is_the_built_in_model_whatever_lies_here(tmp_path, monkeypatch, tiny, capsys):
    monkeypatch.chdir(tmp_path)
    SentenceTransformer(tiny, device="cpu").save(str(tmp_path / "minilm"))
    capsys.readouterr()
    assert load("minilm", device="cpu").get_embedding_dimension() == 384
    assert build(ENCODERS, "transformer:name=minilm", max_length=8).get_embedding_dimension() == 384
    assert build(ENCODERS, "transformer:name=./minilm", max_length=8).get_embedding_dimension() == 32
    assert load("./minilm", device="cpu").get_embedding_dimension() == 32
    printed = capsys.readouterr().err
    assert (
        printed.count("note: minilm is the model of the minilm extra, not the minilm in this folder; write ./minilm")
        == 1
    )
    _tell.cache_clear()
    build(ENCODERS, "rnn:embeddings=minilm,hidden=2", texts=list, max_length=8)
    assert "note: minilm is the model of the minilm extra" in capsys.readouterr().err
    _tell.cache_clear()
    build(ENCODERS, "rnn:hidden=2", texts=list, max_length=8)  # which names none
    assert capsys.readouterr().err == ""
    for spec in ("transformer:name=minilm", "rnn:embeddings=minilm"):
        assert absolute_paths(ENCODERS, spec) == spec
