"""What a command line gets wrong is answered before torch is imported."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated, get_args, get_origin

import pytest

from recipes.runner.early_checks import FORMER_OPTIONS, OPTIONS, TYPES, check_specs_early
from sentemb.encoders import ENCODERS, HEADS
from sentemb.errors import InputError
from sentemb.objectives import OBJECTIVES
from sentemb.registry import annotation_of, options_of

ROOT = Path(__file__).parents[2]
TABLES = {
    "encoder": (ENCODERS, ("texts", "max_length")),
    "head": (HEADS, ("dimension",)),
    "objective": (OBJECTIVES, ()),
}


def plain(annotation):
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def test_the_early_options_are_those_of_the_tables():
    assert OPTIONS.keys() == TABLES.keys()
    for what, (table, supplied) in TABLES.items():
        early = {name: {k: TYPES[kind] for k, kind in row.items()} for name, row in OPTIONS[what].items()}
        assert early == {
            name: {k: plain(annotation_of(factory, p)) for k, p in options_of(factory, supplied).items()}
            for name, factory in table.items()
        }
        for factory in table.values():
            assert all(p.default is not p.empty for p in options_of(factory, supplied).values()), "none is needed"
    former = {}
    for factory in OBJECTIVES.values():
        former |= getattr(factory, "FORMER_OPTIONS", {})
    assert former == FORMER_OPTIONS


@pytest.mark.parametrize(
    "right",
    [
        {"objective": "infonce:own_side=true,temperature=0.1", "encoder": "rnn:dim=none", "corpus": "sample*2"},
        {
            "encoder": "transformer:name=bert-base-uncased",
            "init": "intfloat/e5-small",
            "corpus": "labelled:path=org/set",
        },
        {"encoder": "transformer:name=org/name", "init": "minilm", "corpus": "hub:name=org/set,split=dev + sample"},
        {"objective": "infonce:own_side=true,temperature=0.1*0.5 + distill:loss=mse"},
        {"pairs": "labelled"},
        {"pairs": "neighbours:window=9,both=true,documents=5,classes=true"},
        {"pairs": "contiguous"},
        {"pairs": "passages"},
        {"pairs": "passages:kind=crops,tokens=256,overlap=false"},
        {"pairs": "passages:kind=title,sentences=9"},
        {"pairs": "dropout"},
        {"pairs": "augment:how=delete,rate=0", "clean": "drop:min_tokens=3", "head": "projection:out=3"},
    ],
)
def test_what_may_be_right_is_not_refused(right, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check_specs_early(right)


@pytest.mark.parametrize(
    "wrong, message",
    [
        ({"objective": "infonc"}, "did you mean 'infonce'"),
        ({"objective": "infonce:temprature=1"}, "did you mean 'temperature'"),
        ({"objective": "infonce + "}, "a part of objective .* is empty; write A"),
        ({"objective": "distill*2 + infonce:temprature=1"}, "did you mean 'temperature'"),
        ({"objective": "infonce:temperature=warm"}, "is a number, got 'warm'"),
        ({"encoder": "rnn:hiden=3"}, "did you mean 'hidden'"),
        ({"encoder": "transformer:name=./nope"}, "there is no folder ./nope"),
        ({"head": "mlp:out=3"}, "unknown option"),
        ({"pairs": "neighbours:windw=2"}, "did you mean 'window'"),
        ({"pairs": "neighbours:ranges=2"}, "unknown option"),
        ({"clean": "drop:x=1"}, "unknown option"),
        ({"teacher": "./nope:layers=1"}, "--teacher: there is no folder ./nope"),
        ({"teacher": "minilm:layer=1"}, "did you mean 'layers'"),
        ({"teacher": "minilm:layers=3-1"}, "layers are A-B or A"),
        ({"corpus": "/nope/books"}, "unknown corpus, and no file or folder has that path"),
        ({"corpus": "here"}, "folder here holds no book"),
        ({"corpus": "sample + here*2"}, "folder here holds no book"),
        ({"corpus": "sample + books:path=nope"}, "no file or folder nope"),
        ({"corpus": "labelled:path=nli.csv"}, "no file or folder nli.csv"),
        ({"corpus": "table:colum=x,path=a.csv"}, "did you mean 'column'"),
        ({"init": "runs/first/model"}, "no folder runs/first/model"),
        ({"init": "here/model"}, "no folder here/model"),
        ({"init": "~/model"}, "no folder ~/model"),
    ],
)
def test_what_is_wrong_is_refused(wrong, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    with pytest.raises(InputError, match=message):
        check_specs_early(wrong)


WITHOUT_TORCH = """
import sys
from recipes.train_bookcorpus import main
for arguments in {0!r}:
    try:
        main(arguments)
    except SystemExit as stopped:
        assert stopped.code == 2, arguments
    assert "torch" not in sys.modules and "datasets" not in sys.modules, arguments
"""


def test_accelerate_launch_quiet_prints_the_sentence_alone(tmp_path):
    recipe, config = (str(ROOT / name) for name in ("recipes/train_bookcorpus.py", "accelerate_config.yaml"))
    command = [sys.executable, "-m", "accelerate.commands.launch", "--quiet", "--config_file", config, recipe]
    done = subprocess.run([*command, "--corpus", "nope"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: unknown corpus") and done.stderr.count("\n") == 1


def test_no_such_answer_imports_torch(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    (tmp_path / "run").mkdir()
    stored = {"lr": 0.1, "encoder": f"static:embeddings={tmp_path / 'used' / 'x'}"}
    (tmp_path / "run" / "config.json").write_text(json.dumps({"settings": stored}))
    lines = [
        "--objective infonce:temprature=1",
        "--encoder rnn:hiden=3",
        "--corpus nope",
        "--init runs/first/model",
        "--preset simsce",
        "--resume --out nope",
        "--resume",
        "--out used",
        "--resume --out run --lr 0.2",
        "--resume --out run --objective dcl",
        "--resume --out run --encoder rnn",
        "--resume --out run --corpus bookcorpus",
        "--lr -1",
        "--pairs neighbours:windw=2",
        "--pairs neighbours:window=0",
        "--pairs augment:rate=1",
        "--pairs passages:kind=titel",
        "--pairs passages:sentences=1",
        "--pairs passages:kind=title,removal=0.5",
        "--clean drop:x=1",
        "--clean drop:min_tokens=-1",
    ]
    code = WITHOUT_TORCH.format([line.split() for line in lines])
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("error: ") == len(lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "used"]
