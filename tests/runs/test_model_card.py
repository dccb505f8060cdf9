"""Model cards: what hubs read of them, what people read, and that they go along when a model is saved again."""

import re

import numpy as np
import pytest
from huggingface_hub import ModelCard
from sentence_transformers import SentenceTransformer

from sentemb.encoders import load, two_towers
from sentemb.runs import RunFolder, write_card
from tests.conftest import SENTENCES

CONFIG = {
    "settings": {"corpus": "sample", "pairs": "neighbours", "objective": "infonce:temperature=0.1", "init": None},
    "corpus": {"name": "a | corpus"},
    "encoder": {"dimension": 3},
    "command": "python recipes/train_bookcorpus.py",
    "versions": {"torch": "1.2.3"},
}
RESULT = {
    "tasks": {"MR": {"acc": 71.239, "protocol": "nested"}, "STS-B": {"spearman": 60.0, "protocol": "cosine"}},
    "geometry": {"alignment": 1.25, "uniformity": -2.5, "retrieval_mrr": float("nan"), "source": "held-out pairs"},
}
STATIC = "static:embeddings=random,dim=3,vocabulary=270"


def test_a_card_has_metadata_results_settings_and_how_to_load(encoder, tmp_path):
    encoder(STATIC).save(str(tmp_path), create_model_card=False)
    text = write_card(tmp_path, CONFIG, "5 steps", RESULT).read_text()
    data = ModelCard.load(tmp_path / "README.md").data
    assert data.library_name == "sentence-transformers" and data.pipeline_tag == "sentence-similarity"
    scores = {(r.dataset_name, r.metric_type): r.metric_value for r in data.eval_results}
    assert scores == {("SentEval MR", "accuracy"): 71.24, ("SentEval STS-B", "spearman"): 60.0}
    assert "| MR, accuracy x 100 | 71.24 | nested |" in text and "| 1.2500 | held-out pairs |" in text
    assert "MRR" not in text and "Trained for 5 steps on a | corpus" in text and "3 dimensions" in text
    assert "- objective: `infonce:temperature=0.1`" in text and "- init" not in text and "torch 1.2.3" in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    namespace = {"PATH": str(tmp_path)}
    exec(code, namespace)
    np.testing.assert_allclose(namespace["model"].encode(SENTENCES), load(tmp_path).encode(SENTENCES), atol=1e-6)


def test_the_card_goes_along_when_the_model_is_saved_or_pushed(encoder, tmp_path):
    encoder(STATIC).save(str(tmp_path / "a"), create_model_card=False)
    text = write_card(tmp_path / "a", CONFIG, "5 steps", RESULT).read_text()
    SentenceTransformer(str(tmp_path / "a"), device="cpu").save(str(tmp_path / "b"))  # as push_to_hub does
    assert (tmp_path / "b" / "README.md").read_text() == text


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("rnn:cell=gru,hidden=4", "its GRU is"),
        ("rnn:hidden=4,pooling=final", "final states"),
        ("rnn:hidden=4,skip=mean", "a skip"),
        (STATIC, "f and g"),
    ],
)
def test_a_card_of_our_own_modules_says_how_they_load(spec, named, encoder, tmp_path):
    model = two_towers(encoder(STATIC), encoder(STATIC)) if spec == STATIC else encoder(spec)
    model.save(str(tmp_path), create_model_card=False)
    text = write_card(tmp_path, CONFIG, "0 steps").read_text()
    assert "sentemb.load(PATH)" in text and named in text
    assert ModelCard.load(tmp_path / "README.md").data.library_name is None and "Results" not in text
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    exec(code, {"PATH": str(tmp_path)})


def test_a_card_needs_nothing_but_a_model(encoder, tmp_path):
    encoder(STATIC).save(str(tmp_path), create_model_card=False)
    assert RunFolder(tmp_path).read_config() == {}
    text = write_card(tmp_path, {}, "0 steps", {"alignment": 1.0}).read_text()
    assert "a corpus" in text and "| 1.0000 | held-out pairs |" in text


def test_only_what_is_better_beyond_chance_is_bold_in_a_card(encoder, tmp_path):
    encoder(STATIC).save(str(tmp_path), create_model_card=False)
    row = {"against": "minilm", "level": 0.95, "n": 1000, "items": "pairs", "units": 104, "drawn": "documents"}
    better = row | {"measure": "retrieval_mrr", "difference": 0.02, "low": 0.01, "high": 0.03, "verdict": "better"}
    unclear = row | {"measure": "MR", "difference": 0.5, "low": -0.5, "high": 1.5, "verdict": "cannot tell"}
    text = write_card(tmp_path, CONFIG, "5 steps", RESULT, [better, unclear]).read_text()
    interval = "+0.0100 to +0.0300"
    assert (
        f"| MRR of a sentence's positive | +0.0200 | {interval} | **better** | 1,000 pairs of 104 documents |" in text
    )
    assert (
        "| MR | +0.50 | -0.50 to +1.50 | cannot tell |" in text and text.count("**") == 2 and "Against minilm" in text
    )
