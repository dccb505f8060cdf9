"""Prompts: what a model is trained with is what it is scored with and what it is saved with."""

import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from recipes import train_bookcorpus
from sentemb.corpus import open_corpus
from sentemb.encoders import Prompts, load, parse_prompts, prompts_of, set_prompts, tokenizer_of, towers_of, two_towers
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder
from sentemb.pairs import Words, augment, contiguous, neighbours
from sentemb.training import BatchDataset, TrainingData
from sentemb.validation import CachedEncoder, fingerprint, held_out_geometry, held_out_pairs, sides_of
from tests.devices import DEVICE, SINGLE, numbers
from tests.helpers import records, steady

RANDOM = "embeddings=random,dim=6,vocabulary=290"
TWO = Prompts("query: ", "a passage, read aloud: ")


@pytest.fixture
def corpus(book_file, tmp_path, monkeypatch):
    pytest.importorskip("datasets")
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return open_corpus(str(book_file), progress=False)


def test_prompts_are_read_as_they_are_written():
    assert parse_prompts('anchor="query: ",positive="a, b: "') == Prompts("query: ", "a, b: ")
    assert parse_prompts("anchor=query: ,positive= x") == Prompts("query: ", " x")  # spaces are a prompt's, too
    assert parse_prompts("positive=x") == Prompts("", "x") and parse_prompts("anchor=") == Prompts()
    for wrong, message in (("query=x", "unknown side of prompts 'query'.*anchor, positive"), ("x", "is not key=value")):
        with pytest.raises(InputError, match=message):
            parse_prompts(wrong)


def test_a_models_prompts_are_its_default_one_or_one_for_each_side(encoder):
    model = encoder(f"static:{RANDOM}")
    assert prompts_of(model) == Prompts()
    model.prompts = {"query": "q: ", "document": "d: ", "x": "say: "}
    assert prompts_of(model) == Prompts()  # named ones are for those who name them
    model.default_prompt_name = "x"
    assert prompts_of(model) == Prompts("say: ", "say: ")
    set_prompts(model, TWO)
    assert prompts_of(model) == TWO and model.default_prompt_name == "query"
    for name, text in (("query", TWO.anchor), ("document", TWO.positive)):
        assert model.prompts[name] == text
    set_prompts(model, Prompts())
    assert prompts_of(model) == Prompts() and model.default_prompt_name is None


SPECS = [
    "transformer:name=TINY",
    "transformer:name=TINY,pooling=cls",
    "transformer:name=TINY,pooling=max",
    f"rnn:hidden=5,{RANDOM}",
    f"rnn:cell=gru,hidden=5,pooling=max,{RANDOM}",
    f"static:{RANDOM}",
]


@numbers
@pytest.mark.parametrize("included", [True, False])
@pytest.mark.parametrize("prompts", [Prompts("say: ", "say: "), TWO, Prompts("", "passage: ")])
@pytest.mark.parametrize("spec", SPECS)
def test_the_training_forward_equals_encode_with_its_prompt(spec, prompts, included, encoder, corpus):
    model = encoder(spec, 34).to(DEVICE).eval()
    model.set_pooling_include_prompt(included)
    set_prompts(model, prompts)
    tokenizer = tokenizer_of(model)
    sides = [corpus.tokens(tokenizer, 34, text) for text in (prompts.anchor, prompts.positive)]
    pairs = neighbours(corpus.split()[0])
    batch = BatchDataset(TrainingData(pairs, *sides), 0, 16)[0]
    with torch.no_grad():
        embeddings = TrainingEncoder(model)(*batch.features(model, slice(0, 16), DEVICE)).cpu().numpy()
        parts = [TrainingEncoder(model)(*batch.features(model, slice(n, n + 4), DEVICE)).cpu() for n in (0, 4, 8, 12)]
    rows = pairs.rows[batch.pair_indices]
    expected = [
        model.encode(corpus.sentences(column), prompt=text)
        for column, text in zip(rows.T, (prompts.anchor, prompts.positive), strict=True)
    ]
    assert np.abs(embeddings - np.concatenate(expected)).max() < SINGLE
    in_parts = np.concatenate([np.concatenate([p.chunk(2)[side].numpy() for p in parts]) for side in (0, 1)])
    assert np.abs(in_parts - np.concatenate(expected)).max() < SINGLE
    plain = np.concatenate([model.encode(corpus.sentences(column), prompt="") for column in rows.T])
    assert np.abs(embeddings - plain).max() > 1e-3  # a prompt does something


@pytest.mark.parametrize("included", [True, False])
def test_two_towers_have_a_prompt_each(included, encoder, corpus, tmp_path):
    model = two_towers(encoder("transformer:name=TINY"), encoder("transformer:name=TINY"))
    for tower in towers_of(model):
        tower.set_pooling_include_prompt(included)
    before = fingerprint(model)
    set_prompts(model, TWO)
    assert prompts_of(model) == TWO and fingerprint(model) != before
    f, g = towers_of(model)
    texts = corpus.sentences(slice(0, 9))
    sides = [f.encode(texts, prompt=TWO.anchor), g.encode(texts, prompt=TWO.positive)]
    both = np.concatenate([side / np.linalg.norm(side, axis=1, keepdims=True) for side in sides], axis=1)
    assert np.abs(model.encode(texts) - both).max() < 1e-6
    assert np.abs(model.encode(texts, prompt="x: ") - both).max() > 1e-3
    without = [tower.encode(texts, prompt="") for tower in (f, g)]
    without = np.concatenate([side / np.linalg.norm(side, axis=1, keepdims=True) for side in without], axis=1)
    assert np.abs(model.encode(texts, prompt="") - without).max() < 1e-6
    before = fingerprint(model)
    for change in (lambda: g.set_pooling_include_prompt(not included), lambda: setattr(g, "max_seq_length", 7)):
        change()
        assert fingerprint(model) != before
        before = fingerprint(model)
    g.set_pooling_include_prompt(included)
    g.max_seq_length = f.max_seq_length
    model.save(str(tmp_path / "two"), create_model_card=False)
    for again in (load(tmp_path / "two"), SentenceTransformer(str(tmp_path / "two"), trust_remote_code=True)):
        assert prompts_of(again) == TWO and np.abs(again.encode(texts) - both).max() < 1e-6
    tokens = [corpus.tokens(tokenizer_of(model), 12, text) for text in (TWO.anchor, TWO.positive)]
    for pairs in (neighbours(corpus.split()[0]), contiguous(corpus.split()[0])):
        batch = BatchDataset(TrainingData(pairs, *tokens), 0, 16, towers=2)[0]
        with torch.no_grad():
            embedded = TrainingEncoder(model.eval())(*batch.features(model, slice(0, 16), torch.device("cpu"))).chunk(2)
        rows = pairs.rows[batch.pair_indices]
        expected = f.encode(corpus.sentences(rows[:, 0])), g.encode(corpus.sentences(rows[:, -1]))
        assert all(np.abs(a.numpy() - b).max() < 1e-5 for a, b in zip(embedded, expected, strict=True))


def test_a_gru_keeps_its_prompts_and_its_similarity(encoder, tmp_path):
    model = encoder(f"rnn:cell=gru,hidden=5,{RANDOM}")
    set_prompts(model, TWO)
    model.similarity_fn_name = "dot"
    model.save(str(tmp_path / "gru"), create_model_card=False)
    again = load(tmp_path / "gru")
    assert prompts_of(again) == TWO and again.similarity_fn_name == "dot"
    assert np.array_equal(again.encode("hello"), model.encode("hello"))


def test_augmentations_leave_the_prompt_alone(encoder, corpus):
    tokenizer = tokenizer_of(encoder("transformer:name=TINY"))
    tokens = corpus.tokens(tokenizer, 20, "say it so: ")
    head = tokenizer.encode("say it so: ").ids[:-1]
    assert tokens.prompt_length == len(head) == 5
    pairs = augment(corpus.split()[0], "shuffle", 0.9)
    source = BatchDataset(TrainingData(pairs, tokens, words=Words.of(tokenizer)), 0, 64)
    plain, changed = source[0].columns
    assert all(list(row[:5]) == head for row in (*plain, *changed))
    assert any(list(a) != list(b) for a, b in zip(plain, changed, strict=True))
    assert all(sorted(a) == sorted(b) for a, b in zip(plain, changed, strict=True))


TRAIN = ["--batch-size", "16", "--max-length", "30", "--max-steps", "3", "--warmup", "1", "--no-score", "--lr", "0.003"]


def test_training_with_a_default_prompt_is_training_on_texts_that_have_it(
    recipe,
    encoder,
    book_file,
    tmp_path,
):
    """The model's own default prompt, which training ignored: cosine 0.71 to what ``encode`` gives."""
    for name, prompt in (("plain", None), ("prompted", "query: ")):
        model = encoder("transformer:name=TINY", 30)
        model.prompts["query"], model.default_prompt_name = prompt or "", "query" if prompt else None
        model.save(str(tmp_path / name))
    text = book_file.read_text()
    (tmp_path / "with.txt").write_text("".join(f"query: {line}\n" if line else "\n" for line in text.splitlines()))
    for corpus_file, init, out in (("with.txt", "plain", "a"), (book_file, "prompted", "b"), (book_file, "plain", "c")):
        recipe(["--corpus", str(corpus_file), "--init", str(init), "--out", out, *TRAIN])
    a, b, c = (records(tmp_path / name) for name in "abc")
    assert [r["loss"] for r in a] == pytest.approx([r["loss"] for r in b], rel=1e-6)
    assert [r["retrieval_mrr"] for r in a if "retrieval_mrr" in r] == [
        r["retrieval_mrr"] for r in b if "retrieval_mrr" in r
    ]
    assert abs(b[0]["loss"] - c[0]["loss"]) > 1e-4
    assert load(tmp_path / "b").default_prompt_name == "query" and load(tmp_path / "b").prompts["query"] == "query: "
    card = (tmp_path / "b" / "model" / "README.md").read_text()
    assert "`encode` puts the prompt `query: ` before each text" in card


def test_a_prompt_for_each_side_from_the_command_line(recipe, book_file, tmp_path, capsys):
    spec = 'anchor="query: ",positive="passage: "'
    start = ["--corpus", str(book_file), "--encoder", f"static:{RANDOM}", "--prompts", spec, *TRAIN]
    recipe([*start, "--out", "a", "--save-every", "2"])
    assert "note: prompts before the texts: 'query: ' (anchor), 'passage: ' (positive)" in capsys.readouterr().out
    model = SentenceTransformer(str(tmp_path / "a" / "model"))  # stock, with no flag
    assert (model.prompts["query"], model.prompts["document"]) == ("query: ", "passage: ")
    assert np.array_equal(model.encode("hello"), model.encode_query("hello"))
    pairs = held_out_pairs(open_corpus(str(book_file), progress=False))
    sides = sides_of(model, CachedEncoder(model))
    shape = held_out_geometry(sides, pairs)
    assert shape["retrieval_sides"] == "the anchor's prompt against the positive's"
    row = json.loads((tmp_path / "a" / "scores.json").read_text())["rows"][1]
    assert shape["retrieval_mrr"] == pytest.approx(row["geometry"]["retrieval_mrr"])
    assert records(tmp_path / "a")[-1]["retrieval_mrr"] == pytest.approx(row["geometry"]["retrieval_mrr"])
    x, y = model.encode_query(pairs.first), model.encode_document(pairs.second)
    scores = (x / np.linalg.norm(x, axis=1)[:, None]) @ (y / np.linalg.norm(y, axis=1)[:, None]).T
    ranks = 1 + (scores > scores.diagonal()[:, None]).sum(axis=1)
    assert shape["retrieval_mrr"] == pytest.approx((1 / ranks).mean(), abs=1e-6)
    card = (tmp_path / "a" / "model" / "README.md").read_text()
    assert "with `query: ` before first texts (anchors) and `passage: ` before second ones (positives)" in card
    (tmp_path / "a" / "report.html").unlink()
    straight = steady(tmp_path / "a")
    (tmp_path / "a" / "checkpoints" / "step-3").rename(tmp_path / "step-3")
    recipe(["--out", "a", "--resume"])
    assert steady(tmp_path / "a") == straight
    recipe(["--corpus", str(book_file), "--init", "a", *TRAIN, "--out", "b"])  # continues with the same prompts
    assert prompts_of(load(tmp_path / "b")) == Prompts("query: ", "passage: ")
    recipe(["--corpus", str(book_file), "--init", "a", "--prompts", "anchor=,positive=", *TRAIN, "--out", "c"])
    assert prompts_of(load(tmp_path / "c")) == Prompts() and load(tmp_path / "c").default_prompt_name is None


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--prompts", "query=x"], "unknown side of prompts 'query'"),
        (["--prompts", 'anchor="a'], "has no closing one"),
        (["--prompts", f"anchor={'very ' * 40}"], "leaves no room after the prompt"),
        (["--prompts", "anchor=a,positive=b", "--pairs", "contiguous"], "prompts of two kinds need pairs of two sides"),
    ],
)
def test_prompts_that_cannot_be(flags, message, recipe, book_file, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        train_bookcorpus.main(["--corpus", str(book_file), "--encoder", f"rnn:hidden=5,{RANDOM}", *TRAIN, *flags])
    assert stopped.value.code == 2 and message in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_cleaning_does_not_count_a_prompts_tokens(recipe, book_file, tmp_path):
    short = "\n\n".join("\n".join(f"{a}{b}." for b in "mnopqr") for a in "abcd")
    (tmp_path / "text.txt").write_text(f"{short}\n\n{book_file.read_text()}")
    start = ["--corpus", "text.txt", "--encoder", f"static:{RANDOM}", "--clean", "drop:min_tokens=6", *TRAIN]
    for name, flags in (("a", []), ("b", ["--prompts", "anchor=a long prompt of words: "])):
        recipe([*start, *flags, "--out", name])
        dropped = json.loads((tmp_path / name / "config.json").read_text())["corpus"]["dropped"]
        assert dropped["under 6 tokens"] == 24


def test_pooling_excludes_what_sentence_transformers_counts(encoder, corpus):
    model = encoder("transformer:name=TINY")
    for prompt in ("query: ", "x", "two words", "trailing space "):
        counted = model[0].preprocess(["hello"], prompt=prompt)["prompt_length"]
        assert corpus.tokens(tokenizer_of(model), 20, prompt).prompt_length == counted
    assert isinstance(model[1], Pooling)


def test_a_run_begun_without_its_models_default_prompt_goes_on_without(
    recipe,
    encoder,
    book_file,
    tmp_path,
    capsys,
):
    """Earlier versions trained so, and their config.json says nothing of prompts."""
    model = encoder("transformer:name=TINY", 30)
    model.save(str(tmp_path / "plain"))
    model.prompts["query"], model.default_prompt_name = "query: ", "query"
    model.save(str(tmp_path / "prompted"))
    for name in ("plain", "prompted"):
        flags = [*TRAIN, "--save-every", "1", "--keep", "0", "--select", "last"]
        recipe(["--corpus", str(book_file), "--init", name, *flags, "--out", f"{name}-run"])
    run = tmp_path / "prompted-run"
    for path in (run / "report.html", run / "log.jsonl"):
        path.unlink()
    for name in ("checkpoints", "best", "last", "model"):
        (run / name).rename(tmp_path / f"of-{name}")
    config = json.loads((run / "config.json").read_text())
    assert config.pop("prompts") == {"anchor": "query: ", "positive": "query: "}
    (run / "config.json").write_text(json.dumps(config))
    capsys.readouterr()
    for _ in range(2):  # and when it is resumed once more, by what is written down then
        recipe(["--resume", "--out", str(run)])
        assert "started with the prompts '' and '' and continues with them; the model's are 'query: '" in (
            capsys.readouterr().out
        )
        losses, plain = ([r["loss"] for r in records(path)] for path in (run, tmp_path / "plain-run"))
        assert losses == pytest.approx(plain, rel=1e-6)
        assert json.loads((run / "config.json").read_text())["prompts"] == {"anchor": "", "positive": ""}
        (run / "report.html").unlink()


def test_an_encoder_of_two_prompts_becomes_two_towers_of_one_each(recipe, book_file, tmp_path):
    start = ["--corpus", str(book_file), *TRAIN]
    recipe([*start, "--encoder", f"static:{RANDOM}", "--prompts", "anchor=a: ,positive=b: ", "--out", "one"])
    recipe([*start, "--init", "one", "--towers", "2", "--out", "two"])
    f, g = towers_of(load(tmp_path / "two"))
    assert prompts_of(load(tmp_path / "two")) == Prompts("a: ", "b: ")
    assert np.array_equal(g.encode("hello"), g.encode("hello", prompt="b: "))
    # consecutive sentences are on both sides, which two towers have a prompt each for, however they were made
    two_sided = ["--pairs", "contiguous", "--objective", "joint_infonce", "--prompts", "anchor=c: ,positive=d: "]
    recipe([*start, "--init", "two", *two_sided, "--out", "three"])
    assert prompts_of(load(tmp_path / "three")) == Prompts("c: ", "d: ")


def test_consecutive_sentences_of_one_encoder_have_one_side(job):
    with pytest.raises(InputError, match="positive_tokens belong to the second side of pairs"):
        job("a", pairs="contiguous", objective="joint_infonce", max_steps=2, positive_prompt="x: ")
