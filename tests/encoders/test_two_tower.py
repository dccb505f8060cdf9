"""Two towers: scored as f against g by the objective's own score, wherever they are scored; loaded by every way."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from eval import score_model
from recipes import train_bookcorpus
from sentemb.corpus import open_corpus
from sentemb.encoders import as_router, load, towers_of, two_towers
from sentemb.errors import InputError
from sentemb.objectives import OBJECTIVES
from sentemb.registry import build
from sentemb.validation import (
    CachedEncoder,
    HeldOutPairs,
    held_out_geometry,
    held_out_pairs,
    held_out_scores,
    pair_geometry,
    sides_of,
)
from tests.helpers import records

RANDOM = "embeddings=random,dim=6,vocabulary=290"
TRAIN = ["--batch-size", "16", "--max-steps", "6", "--eval-every", "3", "--warmup", "1", "--no-score", "--lr", "0.02"]


def mean_reciprocal_rank(x: np.ndarray, y: np.ndarray, by: str) -> float:
    """By a loop: where each row's positive stands among all rows of the other side."""
    if by == "cosine":
        x, y = (side / np.linalg.norm(side, axis=1, keepdims=True) for side in (x, y))
    ranks = []
    for i, row in enumerate(x):
        scores = [float(row @ other) for other in y]
        ranks.append(1 + sum(score > scores[i] for score in scores))
    return float(np.mean([1 / rank for rank in ranks]))


@pytest.mark.parametrize(
    ("objective", "pairs", "by"),
    [
        ("infonce", "neighbours", "cosine"),
        ("dpr", "neighbours", "dot"),
        ("infonce:score=dot,temperature=1", "neighbours", "dot"),
        ("joint_infonce:score=dot,temperature=1", "contiguous", "dot"),
        ("joint_infonce", "contiguous", "cosine"),
    ],
)
def test_log_best_table_and_command_have_one_score(objective, pairs, by, recipe, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), "--encoder", f"static:{RANDOM}", "--towers", "2", "--pairs", pairs]
    recipe([*start, "--objective", objective, *TRAIN, "--out", "a"])
    printed = capsys.readouterr().out
    score_name = "inner product" if by == "dot" else by
    assert f"MRR of random static, trained: f against g, by {score_name}" in printed
    run = tmp_path / "a"
    rows = json.loads((run / "scores.json").read_text())["rows"]
    shape = {row["encoder"]: row["geometry"] for row in rows}
    assert (shape["trained"]["retrieval_score"], shape["trained"]["retrieval_sides"]) == (by, "f against g")

    pair_texts = held_out_pairs(open_corpus(str(book_file), progress=False))
    model = load(run)
    f, g = (SentenceTransformer(str(run / "model" / name)) for name in "fg")
    by_hand = mean_reciprocal_rank(f.encode(pair_texts.first), g.encode(pair_texts.second), by)
    assert shape["trained"]["retrieval_mrr"] == pytest.approx(by_hand, abs=1e-6)
    assert records(run)[-1]["retrieval_mrr"] == pytest.approx(by_hand, abs=1e-6)
    assert json.loads((run / "last" / "selected.json").read_text())["retrieval_mrr"] == pytest.approx(by_hand, abs=1e-6)
    best = json.loads((run / "best" / "selected.json").read_text())["retrieval_mrr"]
    assert held_out_scores(load(run / "best"), pair_texts)["retrieval_mrr"] == pytest.approx(best)
    both = mean_reciprocal_rank(model.encode(pair_texts.first), model.encode(pair_texts.second), "cosine")
    assert abs(both - by_hand) > 1e-3  # what the final table once had: [f; g] on both sides

    report = (run / "report.html").read_text()
    assert f"MRR of trained: f against g, by {score_name}." in report
    result = score_model(model, [], pair_texts)
    assert result["geometry"]["retrieval_mrr"] == pytest.approx(by_hand, abs=1e-6)


def test_probes_stay_on_both_towers_side_by_side(encoder):
    model = two_towers(encoder(f"static:{RANDOM}"), encoder(f"static:{RANDOM},out=3"))
    assert model.encode(["hello"]).shape == (1, 9) and score_model(model, [], None)["dimension"] == 9


def test_one_tower_trained_by_inner_products_is_ranked_by_them(recipe, book_file, tmp_path, capsys):
    start = ["--corpus", str(book_file), "--encoder", f"static:{RANDOM}", "--objective", "dpr", *TRAIN]
    recipe([*start, "--out", "a"])
    model = SentenceTransformer(str(tmp_path / "a" / "model"))
    assert model.similarity_fn_name == "dot"  # also for those who use the model with sentence-transformers
    pairs = held_out_pairs(open_corpus(str(book_file), progress=False))
    x, y = model.encode(pairs.first), model.encode(pairs.second)
    by_hand = mean_reciprocal_rank(x, y, "dot")
    assert abs(mean_reciprocal_rank(x, y, "cosine") - by_hand) > 1e-3
    assert records(tmp_path / "a")[-1]["retrieval_mrr"] == pytest.approx(by_hand, abs=1e-6)
    assert "MRR of random static, trained: one encoder, by inner product" in capsys.readouterr().out
    train_bookcorpus.main(["--corpus", str(book_file), "--init", "a", *TRAIN, "--out", "b"])
    assert load(tmp_path / "b").similarity_fn_name == "cosine"  # as infonce has it


def test_which_objectives_score_by_inner_products():
    kinds = {name: build(OBJECTIVES, name).similarity for name in OBJECTIVES}
    assert {name for name, kind in kinds.items() if kind == "dot"} == {"dpr"}
    assert build(OBJECTIVES, "joint_infonce:score=dot").similarity == "dot"


def test_the_geometry_of_two_sides_by_hand():
    vectors = {"a": [2.0, 0.0], "b": [0.0, 1.0], "c": [3.0, 3.0]}
    pairs = HeldOutPairs(["a", "b"], ["b", "c"], "-")

    def encode(texts):
        return np.array([vectors[text] for text in texts])

    def mirrored(texts):
        return np.array([vectors[text][::-1] for text in texts])

    cosine = pair_geometry(encode, pairs, mirrored)
    dot = pair_geometry(encode, pairs, mirrored, "dot")
    # g(b) = (1, 0), g(c) = (3, 3): by cosine f(a) is nearer to g(b), by inner product to g(c)
    assert (cosine["retrieval_mrr"], dot["retrieval_mrr"]) == (1.0, 0.75)
    assert cosine["alignment"] == dot["alignment"] == pytest.approx((0 + (2 - 2**0.5)) / 2)


def test_two_towers_load_by_sentence_transformers_too(encoder, tmp_path):
    for number, (f, g) in enumerate([("rnn:cell=gru,hidden=4,", "rnn:hidden=3,"), ("static:", "static:out=3,")]):
        model = two_towers(encoder(f + RANDOM), encoder(g + RANDOM))
        model.similarity_fn_name = "dot"
        folder = tmp_path / str(number)
        model.save(str(folder), create_model_card=False)
        with pytest.raises(ValueError, match="trust_remote_code"):
            SentenceTransformer(str(folder))
        texts = ["hello", "The weather, perpetually changing."]
        for again in (SentenceTransformer(str(folder), trust_remote_code=True), load(folder)):
            assert np.array_equal(again.encode(texts), model.encode(texts)) and len(towers_of(again)) == 2
            assert again.similarity_fn_name == "dot"
            assert sides_of(again, CachedEncoder(again)).names == "f against g"


def test_a_model_that_only_encodes_is_one_encoder():
    class Plain:
        def encode(self, texts, **more):
            return np.array([[len(text), 1.0] for text in texts])

    pairs = HeldOutPairs(["a", "bbb"], ["aa", "bbbb"], "-")
    sides = sides_of(Plain(), CachedEncoder(Plain()))
    assert held_out_geometry(sides, pairs)["retrieval_sides"] == "one encoder"


@pytest.mark.parametrize("name", ["f", "g"])
def test_a_missing_tower_is_named_and_not_looked_for_on_the_hub(name, encoder, tmp_path):
    two_towers(encoder(f"static:{RANDOM}"), encoder(f"static:{RANDOM}")).save(
        str(tmp_path / "two"), create_model_card=False
    )
    for path in (tmp_path / "two").rglob(name):
        path.rename(tmp_path / "gone")
    for again in (load, lambda path: SentenceTransformer(str(path), trust_remote_code=True)):
        with pytest.raises(InputError, match=rf"/{name} is missing; copy the folder again"):
            again(tmp_path / "two")


def sentence_transformers_alone(folder: Path, texts: list[str], out: Path) -> dict[str, np.ndarray]:
    """What a process in which sentemb cannot be imported makes of a model's two sides and of ``encode``."""
    code = (
        "import sys; sys.modules['sentemb'] = None; import numpy as np\n"
        "from sentence_transformers import SentenceTransformer\n"
        f"model, texts = SentenceTransformer({str(folder)!r}, device='cpu'), {texts!r}\n"
        f"np.savez({str(out)!r}, query=model.encode_query(texts), document=model.encode_document(texts),\n"
        "    plain=model.encode(texts), score=np.array(model.similarity_fn_name))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    return dict(np.load(out))


def test_a_run_with_two_towers_has_them_as_a_stock_router_too(recipe, book_file, tmp_path):
    start = ["--corpus", str(book_file), "--encoder", f"static:{RANDOM}", "--towers", "2", "--objective", "dpr", *TRAIN]
    recipe([*start, "--prompts", 'anchor="query: ",positive="passage, "', "--out", "a"])
    folder, texts = tmp_path / "a" / "model", ["hello", "", "the king meets the cat number 3."]
    f, g = towers_of(load(folder))
    by_side = sentence_transformers_alone(folder / "router", texts, tmp_path / "made.npz")
    assert np.abs(by_side["query"] - f.encode(texts)).max() < 1e-6
    assert np.abs(by_side["document"] - g.encode(texts)).max() < 1e-6
    assert np.abs(by_side["plain"] - g.encode(texts)).max() < 1e-6 and str(by_side["score"]) == "dot"
    assert np.abs(f.encode(texts) - g.encode(texts)).max() > 1e-3  # (or the two sides could be mixed up)
    assert np.abs(f.encode(texts) - f.encode(texts, prompt="")).max() > 1e-3
    assert load(folder).encode(texts).shape == (3, 12)  # probes stay on [f; g]
    assert np.array_equal(load(folder / "router").encode_query(texts), by_side["query"])
    assert "router.encode_query" in (folder / "README.md").read_text()


@pytest.mark.parametrize("spec", [f"static:{RANDOM},out=3", "transformer:name=TINY"])
def test_a_router_is_f_and_g_whatever_stock_modules_they_have(spec, encoder, tmp_path):
    f, g = encoder(spec), encoder(spec)
    for weight in g.parameters():
        weight.data.mul_(1.5)
    as_router(two_towers(f, g)).save(str(tmp_path / "router"), create_model_card=False)
    texts = ["hello", "The weather, perpetually changing.", "Hello!"]
    by_side = sentence_transformers_alone(tmp_path / "router", texts, tmp_path / "made.npz")
    for side, tower in (("query", f), ("document", g)):
        assert np.abs(by_side[side] - tower.encode(texts)).max() < 1e-6
    assert np.abs(by_side["query"] - by_side["document"]).max() > 1e-3


def test_recurrent_towers_and_a_single_encoder_have_no_router(encoder):
    f = encoder(f"static:{RANDOM}")
    assert as_router(f) is None and as_router(two_towers(f, encoder(f"static:{RANDOM}"))) is not None
    for spec in ("rnn:cell=gru,hidden=3,", "rnn:hidden=3,pooling=final,", "rnn:hidden=3,"):
        assert as_router(two_towers(encoder(spec + RANDOM), encoder(spec + RANDOM))) is None
