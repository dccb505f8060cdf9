"""Encoders in ONNX: the same embeddings as the encoder, read back by every way; what the command prints and refuses."""

import copy
import json
import pickle
import subprocess
import sys
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

import sentemb
from eval import score_model
from sentemb import load
from sentemb.encoders import ONNX, OnnxEncoder, Prompts, fingerprint_of, set_prompts, tokenizer_of, two_towers
from sentemb.errors import InputError
from sentemb.export import main, onnx_folder
from sentemb.forward import TrainingEncoder, collate_tokens
from sentemb.validation import EmbeddingCache
from tests.helpers import DOCUMENTS, SMALL, STATIC

MISSING = [name for name in onnx_folder.PACKAGES if find_spec(name) is None]
needs_onnx = pytest.mark.skipif(bool(MISSING), reason=f"not installed (the extra onnx): {', '.join(MISSING)}")
GRU = SMALL.replace("rnn:", "rnn:cell=gru,")
TEXTS = ["Hello", "", "What on earth do you mean by that, sir?", "Nobody answered him.", "rain " * 40, "!"]


def write(spec, encoder, folder) -> SentenceTransformer:
    """The encoder of a spec, saved into a folder and into its onnx/."""
    model = encoder(spec)
    model.save(str(folder), create_model_card=False)
    (folder / ONNX).mkdir()
    onnx_folder.write_onnx(model, folder / ONNX, "float32")
    return model


@needs_onnx
@pytest.mark.parametrize(
    "spec",
    [
        STATIC,
        f"{STATIC},out=3",
        SMALL,
        f"{SMALL},layers=2,out=3",
        f"{SMALL},pooling=final",
        f"{SMALL},pooling=mean+max,skip=max",
        f"{SMALL},bidirectional=false,pooling=last",
        GRU,
        f"{GRU},layers=2",
        f"{GRU},pooling=final",
        "transformer:name=TINY",
        "transformer:name=TINY,pooling=cls+max,mlp=true",
    ],
)
def test_a_graph_of_ragged_rows_is_the_encoder_of_each_text_alone(spec, encoder, tmp_path):
    model = write(spec, encoder, tmp_path)
    alone = model.encode(TEXTS, batch_size=1)  # no padding, by the stock modules
    exported = load(tmp_path, backend="onnx")
    assert np.abs(exported.encode(TEXTS, batch_size=len(TEXTS)) - alone).max() < 1e-5
    assert np.abs(exported.encode(TEXTS, batch_size=1) - alone).max() < 1e-5  # a row, some of one token
    assert np.abs(exported.encode([""]) - model.encode([""])).max() < 1e-5
    assert np.abs(alone[0] - alone[2]).max() > 1e-3  # (of another embedding the test would not pass)


@needs_onnx
@pytest.mark.slow
def test_minilm_in_onnx_is_minilm(encoder, tmp_path):
    model = write("transformer:name=minilm", encoder, tmp_path)
    assert np.abs(load(tmp_path, backend="onnx").encode(TEXTS) - model.encode(TEXTS)).max() < 1e-5


@needs_onnx
@pytest.mark.parametrize("spec", [STATIC, SMALL, "transformer:name=TINY"])
def test_the_files_are_enough_without_torch(spec, encoder, tmp_path):
    model, texts = write(spec, encoder, tmp_path), TEXTS[2:]
    code = (
        "import sys; sys.modules['torch'] = None; import numpy as np, onnxruntime\n"
        "from tokenizers import Tokenizer\n"
        f"folder = {str(tmp_path / ONNX)!r}\n"
        f"rows = Tokenizer.from_file(folder + '/tokenizer.json').encode_batch({texts!r})\n"
        "inputs = {'input_ids': [row.ids for row in rows], 'attention_mask': [row.attention_mask for row in rows]}\n"
        "inputs = {name: np.array(value, dtype=np.int64) for name, value in inputs.items()}\n"
        "graph = onnxruntime.InferenceSession(folder + '/model.onnx')\n"
        f"np.save({str(tmp_path / 'made.npy')!r}, graph.run(['sentence_embedding'], inputs)[0])\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert np.abs(np.load(tmp_path / "made.npy") - model.encode(texts)).max() < 1e-5


@needs_onnx
def test_the_command_writes_beside_the_model_and_into_a_new_folder(encoder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    model, folder, out = encoder(GRU), tmp_path / "model", tmp_path / "served"
    set_prompts(model, Prompts("query: ", "passage: "))
    model.similarity_fn_name = "dot"
    model.save(str(folder), create_model_card=False)
    before, expected = fingerprint_of(folder), model.encode(TEXTS)
    of_document = model.encode(TEXTS, prompt_name="document")
    main([str(folder), "--format", "onnx"])
    first, difference, speed = capsys.readouterr().out.splitlines()
    assert first.startswith(f"{folder / ONNX}: 12 dimensions in float32") and "a second by onnxruntime" in speed
    assert float(difference.split(" is ")[1].split()[0]) < 1e-5
    assert fingerprint_of(folder) == before  # of what a model is, its export is no part
    main([str(folder), str(out), "--format", "onnx"])
    made = [load(folder, backend="onnx"), load(out), load(out, backend="onnx")]
    made.append(SentenceTransformer(str(out), trust_remote_code=True, device="cpu"))
    made[1].save(str(tmp_path / "again"), create_model_card=False)
    made += [load(tmp_path / "again"), copy.deepcopy(made[0]), pickle.loads(pickle.dumps(made[0]))]
    for exported in made:
        assert isinstance(exported[0], OnnxEncoder) and exported.similarity_fn_name == "dot"
        assert np.abs(exported.encode(TEXTS) - expected).max() < 1e-5
        assert np.abs(exported.encode_document(TEXTS) - of_document).max() < 1e-5
        assert exported.max_seq_length == 12 and exported.get_embedding_dimension() == 12
    assert np.abs(expected - of_document).max() > 1e-3
    ids = [tokenizer_of(each).encode("What on earth?").ids for each in (model, made[0])]
    assert ids[0] == ids[1] and score_model(made[0], [], None)["dimension"] == 12
    forward, rows = TrainingEncoder(made[0]), [np.array(row) for row in ([5, 6, 7, 8], [9], [])]
    stock = TrainingEncoder(model).eval()
    with torch.no_grad():  # (as a teacher, and by sentemb encode)
        of_rows = [each(collate_tokens(each.model, rows)) for each in (forward, stock)]
    assert (of_rows[0] - of_rows[1]).abs().max() < 1e-5
    with pytest.raises(InputError, match="in ONNX, which only encodes"):
        sentemb.train(DOCUMENTS, encoder=made[0], out=str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    capsys.readouterr()
    for arguments in ([str(folder)], [str(folder), str(out)], [str(out), str(tmp_path / "third")]):
        with pytest.raises(SystemExit):
            main([*arguments, "--format", "onnx"])
    errors = capsys.readouterr().err.splitlines()
    assert "overwritten" in errors[0] and "overwritten" in errors[1] and "in ONNX already" in errors[2]
    assert not (tmp_path / "third").exists()


@needs_onnx
@pytest.mark.parametrize("spec", [f"{STATIC},out=4", SMALL, "transformer:name=TINY"])
def test_int8_is_smaller_and_near(spec, encoder, tmp_path, capsys):
    model = encoder(spec)
    model.save(str(tmp_path / "model"), create_model_card=False)
    sizes = {}
    for precision in ("float32", "int8"):
        main([str(tmp_path / "model"), str(tmp_path / precision), "--format", "onnx", "--precision", precision])
        sizes[precision] = (tmp_path / precision / ONNX / "model.onnx").stat().st_size
    assert "dimensions in int8" in capsys.readouterr().out and sizes["int8"] < sizes["float32"]
    float32, int8 = (load(tmp_path / name) for name in sizes)
    texts = [text for text in TEXTS if text]
    similarity = float32.similarity_pairwise(float32.encode(texts), int8.encode(texts))
    assert similarity.min() > 0.97 and np.abs(float32.encode(texts) - int8.encode(texts)).max() > 1e-6
    # embeddings of two graphs never share a cache
    assert EmbeddingCache(tmp_path, float32).folder != EmbeddingCache(tmp_path, int8).folder


@needs_onnx
def test_a_graph_that_computes_something_else_is_refused(encoder, tmp_path, monkeypatch, capsys):
    encoder(SMALL).save(str(tmp_path / "model"), create_model_card=False)
    monkeypatch.setattr(onnx_folder, "LARGEST_DIFFERENCE", 0.0)
    with pytest.raises(SystemExit) as ended:
        main([str(tmp_path / "model"), "--format", "onnx"])
    assert ended.value.code == 2 and "computes other embeddings" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"] and not (tmp_path / "model" / ONNX).exists()


@needs_onnx
def test_what_has_no_form_in_onnx_is_refused(encoder, tmp_path, capsys):
    two_towers(encoder(STATIC), encoder(STATIC)).save(str(tmp_path / "two"), create_model_card=False)
    with pytest.raises(SystemExit):
        main([str(tmp_path / "two"), "--format", "onnx"])
    error = capsys.readouterr().err
    assert "two towers" in error and str(tmp_path / "two" / "f") in error
    model = encoder("transformer:name=TINY")
    set_prompts(model, Prompts("query: ", ""))
    model.set_pooling_include_prompt(False)
    with pytest.raises(InputError, match="leaves its prompts out"):
        onnx_folder.refuse_inexpressible(model, tmp_path)


@needs_onnx
def test_a_damaged_graph_and_a_damaged_config_are_told_of(encoder, tmp_path):
    write(STATIC, encoder, tmp_path)
    config = tmp_path / ONNX / "onnx_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"sha256": "none"}))
    with pytest.raises(InputError, match="cannot be loaded"):
        load(tmp_path, backend="onnx")
    (tmp_path / ONNX / "model.onnx").write_bytes(b"no graph")
    with pytest.raises(InputError, match="export it again"):
        load(tmp_path, backend="onnx")


def test_what_is_missing_is_said_in_a_sentence(encoder, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "model"
    encoder(STATIC).save(str(folder), create_model_card=False)
    with pytest.raises(InputError, match=r"no graph in a folder onnx/; write it with sentemb export"):
        load(folder, backend="onnx")
    (folder / ONNX).mkdir()
    (folder / ONNX / "onnx_config.json").write_text("{}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # importing it fails
    with pytest.raises(InputError, match=r"needs onnxruntime, which is not installed; pip install 'sentemb\[onnx\]'"):
        load(folder, backend="onnx")
    with pytest.raises(InputError, match="computes on CPUs"):
        load(folder, backend="onnx", device="meta")
    with pytest.raises(InputError, match="unknown backend 'onyx'"):
        load(folder, backend="onyx")
    monkeypatch.setattr(onnx_folder, "PACKAGES", ("onnxruntime",))
    for arguments, reason in (
        ([str(folder), "--format", "onnx"], "needs onnxruntime"),
        ([str(folder), "--format", "onnx", "--precision", "float16"], "choose float32 or int8"),
        ([str(folder)], "needs OUT"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2 and reason in capsys.readouterr().err
    monkeypatch.setattr(onnx_folder, "PACKAGES", ())
    with pytest.raises(SystemExit):
        main(["minilm", "--format", "onnx"])  # whose folder is not the user's
    assert "give OUT" in capsys.readouterr().err
