"""Distilled tables: each row is what the teacher makes of an entry, and a student loads and trains as any other."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from transformers import BertModel, RobertaConfig, RobertaModel

from sentemb.corpus import open_corpus
from sentemb.encoders import (
    ENCODERS,
    NamedTexts,
    distilled_table,
    frequent_words,
    learn_vocabulary,
    load,
    tokenizer_of,
)
from sentemb.encoders.distilled_table import principal_components
from sentemb.encoders.frequent_words import BoundedCounts, frequent_additions
from sentemb.errors import InputError
from sentemb.registry import absolute_paths, build
from tests.conftest import SENTENCES
from tests.devices import SINGLE
from tests.encoders.conftest import LETTERS, SIZES, SPECIAL, WORDS, wrapped
from tests.encoders.test_factory import trained_forward


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def student(spec, texts=lambda: SENTENCES, max_length=12):
    torch.manual_seed(0)
    return build(ENCODERS, spec, "encoder", texts=texts, max_length=max_length)


def rows_of(model):
    return dict(model[0].tokenizer.get_vocab()), model[0].embedding.weight.detach().numpy()


def assert_rotated(rows, embeddings):
    """The components of all dimensions are centred, rotated and of mean squared length 1: inner products say so."""
    centred = embeddings - embeddings.mean(axis=0)
    products = centred @ centred.T
    np.testing.assert_allclose(rows @ rows.T, products / np.trace(products) * len(rows), atol=1e-3)


def test_a_row_is_the_teachers_embedding_of_the_entry_alone(bert):
    vocabulary, table = rows_of(student(f"static:distill={bert},dim=16,weighting=none"))
    teacher = SentenceTransformer(str(bert), device="cpu")
    cls, sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
    expected = {}
    for token, number in vocabulary.items():
        if token not in SPECIAL:
            ids = torch.tensor([[cls, number, sep]])
            features = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            expected[token] = teacher(features)["sentence_embedding"][0].detach().numpy()
    np.testing.assert_allclose(expected["rain"], teacher.encode("rain"), atol=1e-5)
    assert len(expected) == len(LETTERS) + len(WORDS)
    got = table[[vocabulary[token] for token in expected]]
    assert_rotated(got, np.stack(list(expected.values())))
    assert not table[[vocabulary[token] for token in SPECIAL]].any()
    assert np.square(got).sum(axis=1).mean() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(("layers", "numbers"), [("0-1", [0, 1]), ("0+2", [0, 2]), ("2", [2])])
def test_rows_of_the_teachers_layers_are_their_mean_states_standardised(layers, numbers, bert):
    dim = 16 * len(numbers)
    vocabulary, table = rows_of(student(f"static:distill={bert},dim={dim},weighting=none,teacher_layers={layers}"))
    model = BertModel.from_pretrained(bert).eval()
    tokens = [token for token in vocabulary if token not in SPECIAL]
    states = []
    for token in tokens:
        ids = torch.tensor([[vocabulary["[CLS]"], vocabulary[token], vocabulary["[SEP]"]]])
        with torch.no_grad():
            hidden = model(input_ids=ids, output_hidden_states=True).hidden_states
        states.append(torch.cat([hidden[number][0].mean(dim=0) for number in numbers]).double().numpy())
    expected = np.stack(states)
    got = table[[vocabulary[token] for token in tokens]]
    assert np.square(got).sum(axis=1).mean() == pytest.approx(dim, rel=1e-4)
    assert_rotated(got / np.sqrt(dim), (expected - expected.mean(0)) / expected.std(0))


@pytest.mark.parametrize("layers", ["3", "1-9", "x", "2+1"])
def test_layers_that_the_teacher_has_not_are_refused(layers, bert):
    with pytest.raises(InputError, match="teacher_layers"):
        student(f"static:distill={bert},dim=4,teacher_layers={layers}")


def test_principal_components_keep_the_most_variance():
    x = np.random.default_rng(0).normal(size=(5000, 6)) * [1, 9, 1, 5, 0.1, 2] + 3
    x = x.astype(np.float32)
    got = principal_components(x, 3)
    values = np.linalg.svd(x.astype(np.float64) - x.mean(axis=0, dtype=np.float64), full_matrices=False)[1]
    np.testing.assert_allclose(np.linalg.norm(got, axis=0), values[:3], rtol=1e-6)
    np.testing.assert_allclose(got.T @ got, np.diag(values[:3] ** 2), atol=1e-3)
    assert np.corrcoef(got[:, 0], x[:, 1])[0, 1] > 0.99  # the sign of the largest loading


def test_weights_by_rank_and_by_frequency(bert):
    spec = f"static:distill={bert},dim=8"
    vocabulary, plain = rows_of(student(f"{spec},weighting=none"))
    _, ranked = rows_of(student(f"{spec},weighting=rank"))
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1]) if token not in SPECIAL]
    numbers = [vocabulary[token] for token in tokens]
    by_rank = np.linalg.norm(ranked[numbers], axis=1) / np.linalg.norm(plain[numbers], axis=1)
    np.testing.assert_allclose(by_rank / by_rank[0] * np.log(2), np.log(1 + np.arange(1, len(tokens) + 1)), rtol=1e-4)
    texts = ["the rain", "the ?", "the rain on it"]  # 8 entries, one of them unknown
    _, smooth = rows_of(student(spec, lambda: texts))
    by_share = np.linalg.norm(smooth[numbers], axis=1) / np.linalg.norm(plain[numbers], axis=1)
    share = {"the": 3 / 8, "rain": 2 / 8, "on": 1 / 8, "it": 1 / 8}
    expected = np.array([1e-3 / (1e-3 + share.get(token, 0)) for token in tokens])
    np.testing.assert_allclose(by_share / by_share[0], expected, rtol=1e-4)
    with pytest.raises(InputError, match="weighting=sif counts the entries in the training texts, which have none"):
        student(spec, list)


@pytest.mark.parametrize("kind", ["static:", "rnn:hidden=6,", "rnn:hidden=6,pooling=max,"])
def test_a_student_trains_and_loads_as_it_encodes(kind, bert, tmp_path):
    model = student(f"{kind}distill={bert},dim=8")
    expected = model.encode(SENTENCES)
    assert np.abs(trained_forward(model, SENTENCES) - expected).max() < SINGLE
    model.save(str(tmp_path / "model"))
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu").encode(SENTENCES)
    assert np.abs(again - expected).max() < 1e-6
    assert tokenizer_of(load(tmp_path / "model")).to_str() == tokenizer_of(model).to_str()


def test_a_recurrent_students_table_is_frozen_unless_asked_for(bert):
    assert not student(f"rnn:hidden=2,distill={bert},dim=4")[0].emb_layer.weight.requires_grad
    assert student(f"rnn:hidden=2,distill={bert},dim=4,train_embeddings=true")[0].emb_layer.weight.requires_grad


def test_the_second_call_reads_no_teacher_and_gives_the_same_student(bert, cache, monkeypatch):
    specs = [f"{kind}distill={bert},dim=8,weighting=none" for kind in ("static:", "rnn:hidden=3,")]
    first = [student(spec).encode(SENTENCES) for spec in reversed(specs)]
    with monkeypatch.context() as patch:
        patch.setattr(distilled_table, "read_model", lambda folder: pytest.fail("the teacher was read"))
        again = [student(spec).encode(SENTENCES) for spec in reversed(specs)]
        student(specs[0].replace("none", "rank"))  # another table of the same entries
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for file in cache.glob("distilled/*/*"):
        file.write_bytes(b"damaged")
    assert np.array_equal(student(specs[1]).encode(SENTENCES), first[0])


TEXTS = ["It was RAINING in New York, raining on it.", "New Yorkers went in; Thünder went on.", "New, York!"] * 3
TEXTS += ["A new york in new York: thunder", "zebras it", "abc it"]


def test_frequent_words_and_phrases_are_entries_of_the_vocabulary(bert):
    spec = f"static:distill={bert},dim=16,weighting=none"
    plain, model = student(spec), student(f"{spec},words=5,phrases=1", lambda: TEXTS)
    vocabulary, table = rows_of(model)
    first = max(rows_of(plain)[0].values()) + 1
    # frequency, then the alphabet; "new" is an entry already, and so are "café" and "rain"
    added = ["york", "raining", "thunder", "was", "yorkers", "new york"]
    assert {entry: vocabulary[entry] for entry in added} == {entry: first + i for i, entry in enumerate(added)}
    assert len(table) == first + len(added) == len(vocabulary)
    numbers = [number for token, number in sorted(vocabulary.items(), key=lambda item: item[1]) if token not in SPECIAL]
    cls, sep = vocabulary["[CLS]"], vocabulary["[SEP]"]
    teacher = SentenceTransformer(str(bert), device="cpu")
    ids = torch.tensor([[cls, number, sep] for number in numbers if number < first])
    entries = teacher({"input_ids": ids, "attention_mask": torch.ones_like(ids)})["sentence_embedding"]
    assert_rotated(table[numbers], np.concatenate([entries.detach().numpy(), teacher.encode(added)]))


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("New York", ["new york"]),
        ("in NEW YORK!", ["in", "new york", "!"]),
        ("New, York", ["new", ",", "york"]),
        ("new yorkers", ["new", "yorkers"]),
        ("Thünder ThunderS", ["thunder", "thunder", "##s"]),
        ("rain raining", ["rain", "raining"]),
    ],
)
def test_a_student_takes_the_longest_entry(text, tokens, bert):
    spec = f"static:distill={bert},dim=4,weighting=none,words=5,phrases=1"
    assert tokenizer_of(student(spec, NamedTexts(lambda: TEXTS, "texts"))).encode(text).tokens == tokens


@pytest.mark.parametrize("kind", ["static:", "rnn:hidden=6,", "rnn:hidden=6,pooling=max,"])
def test_a_student_with_words_and_phrases_trains_and_loads_as_it_encodes(kind, bert, tmp_path):
    model = student(f"{kind}distill={bert},dim=8,words=5,phrases=1", lambda: TEXTS)
    expected = model.encode(TEXTS)
    assert np.abs(trained_forward(model, TEXTS) - expected).max() < SINGLE
    model.save(str(tmp_path / "model"))
    again = SentenceTransformer(str(tmp_path / "model"), device="cpu")
    assert np.abs(again.encode(TEXTS) - expected).max() < 1e-6
    assert tokenizer_of(again).to_str() == tokenizer_of(model).to_str()


def test_a_corpus_is_tokenized_for_each_vocabulary(bert, tmp_path):
    """What training reads is what encode sees, with and without phrases, which look beyond a word."""
    (tmp_path / "text.txt").write_text("\n".join(dict.fromkeys(TEXTS)), encoding="utf-8")
    corpus = open_corpus(str(tmp_path / "text.txt"), progress=False)
    rows = list(corpus.sentences(np.arange(len(corpus))))
    entries = Tokenizer.from_file(str(bert / "tokenizer.json")).get_vocab_size()
    for more in ("", ",words=5", ",words=5,phrases=1"):
        model = student(f"rnn:hidden=4,distill={bert},dim=4,weighting=none{more}", lambda: TEXTS, 40)
        tokens = corpus.tokens(tokenizer_of(model), 40)
        got = [tokens[row].tolist() for row in range(len(corpus))]
        assert got == [model[0].tokenizer.tokenize(row) for row in rows]
        assert any(token >= entries for row in got for token in row) == bool(more)


def test_texts_are_read_once_for_words_and_phrases(bert):
    read = []

    def spec(dim):
        return f"static:distill={bert},dim={dim},weighting=none,words=5,phrases=1"

    texts = NamedTexts(lambda: read.append(1) or TEXTS, "texts")
    first, again = student(spec(4), texts), student(spec(5), texts)
    assert read == [1] and rows_of(first)[0] == rows_of(again)[0]
    assert rows_of(student(spec(4), NamedTexts(lambda: ["zebras zebras"], "others")))[0].keys() >= {"zebras"}


def test_fewer_words_than_wanted_are_noted(bert, capsys):
    student(f"static:distill={bert},dim=4,weighting=none,words=9,phrases=7", lambda: ["zebras it", "abc it"])
    printed = capsys.readouterr().err
    assert "note: words=9, and the texts have 2" in printed and "note: phrases=7, and the texts have 0" in printed


def test_collocations_are_those_of_the_formula(bert, monkeypatch):
    draw, letters = np.random.default_rng(0), list("abcdefgh")
    texts = [" ".join(draw.choice(letters, 6, p=[0.3, 0.3, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])) for _ in range(300)]
    texts += ["a b, c d e f"] * 20 + ["g h a", "don't a b-c it's"] * 9
    monkeypatch.setattr(frequent_words, "MIN_NPMI", 0.15)
    tokenizer = Tokenizer.from_file(str(bert / "tokenizer.json"))
    runs = [run for text in texts for run in re.findall(r"(?<![^ ])[a-h](?: [a-h])*(?![^ ,])", text)]
    single = Counter(re.findall("[a-z]+", " ".join(texts)))
    total, expected = sum(single.values()), {}
    for size in (2, 3):
        words = [run.split() for run in runs]
        grams = Counter(tuple(run[i : i + size]) for run in words for i in range(len(run) - size + 1))
        for gram, count in grams.items():
            p = count / total
            independent = math.prod(single[word] / total for word in gram)
            if count >= 5 and math.log(p / independent) / (-(size - 1) * math.log(p)) >= 0.15:
                expected[" ".join(gram)] = count
    ordered = sorted(expected, key=lambda phrase: (-expected[phrase], phrase))
    assert len(ordered) >= 5 and any(phrase.count(" ") == 2 for phrase in ordered)
    assert frequent_additions(texts, tokenizer, 0, 1000).phrases == ordered
    assert frequent_additions(texts, tokenizer, 0, 3).phrases == ordered[:3]


def test_counts_stay_small_and_frequent_things_stay_in_them(monkeypatch):
    monkeypatch.setattr(frequent_words, "LIMIT", 40)
    counts, largest = BoundedCounts(), 0
    for i in range(2000):
        counts.add(["often", f"once {i}", f"now and then {i % 500}"])
        largest = max(largest, len(counts.counts))
    assert counts.counts["often"] == 2000 and counts.total == 6000 and largest <= 40


def test_a_table_by_frequency_is_of_its_texts(bert):
    spec, read = f"static:distill={bert},dim=4", []

    def texts(name, sentences):
        return NamedTexts(lambda: read.append(name) or sentences, name)

    a, again, b = (
        student(spec, texts(*named)).encode("the rain")
        for named in (("a", ["the"]), ("a", ["the"]), ("b", ["the rain rain"]))
    )
    assert read == ["a", "b"] and np.array_equal(a, again) and not np.allclose(a, b)


def test_a_teacher_of_another_family(tmp_path):
    """RoBERTa's: byte-level BPE, <pad> that is not number 0, no [UNK]."""
    tokenizer = learn_vocabulary(SENTENCES, 300)
    names = ["<pad>", "<unk>", "<s>", "</s>", "<mask>"]
    tokenizer.add_special_tokens(names)
    size = tokenizer.get_vocab_size()
    config = RobertaConfig(vocab_size=size, max_position_embeddings=400, pad_token_id=size - 5, **SIZES)
    RobertaModel(config).save_pretrained(tmp_path / "roberta")
    wrapped(tokenizer, names).save_pretrained(tmp_path / "roberta")
    for option in ("words=2", "phrases=3"):
        with pytest.raises(InputError, match=f"{option} adds to a vocabulary of kind WordPiece.*teacher's is BPE"):
            student(f"static:distill={tmp_path / 'roberta'},dim=5,{option}")
    for kind in ("static:", "rnn:hidden=4,"):
        model = student(f"{kind}distill={tmp_path / 'roberta'},dim=5")
        expected = model.encode(SENTENCES)
        assert np.abs(trained_forward(model, SENTENCES) - expected).max() < SINGLE
        model.save(str(tmp_path / "model"))
        assert np.abs(load(tmp_path / "model").encode(SENTENCES) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("static:distill=BERT,dim=17", "dim=17 is more than the 16 dimensions of .*give a smaller one"),
        ("static:distill=BERT", "dim=256 is more than the 16 dimensions"),
        ("rnn:distill=BERT,dim=0", "dim must be at least 1"),
        ("static:distill=BERT,dim=4,embeddings=random", "keep one of them"),
        ("rnn:distill=BERT,dim=4,embeddings=minilm", "keep one of them"),
        ("static:distill=BERT,dim=4,vocabulary=300", "a distilled table has its teacher's"),
        ("static:distill=BERT,dim=4,weighting=zipf", "unknown weighting 'zipf'.*valid: none, rank, sif"),
        ("static:distill=BERT,dim=4,words=-1", "must not be negative, got -1 and 0"),
        ("rnn:words=5", "words=5 is for a distilled table; add distill=TEACHER"),
        ("static:phrases=5,embeddings=random", "phrases=5 is for a distilled table"),
        ("static:weighting=sif", "weighting=sif is for a distilled table; add distill=TEACHER"),
        ("rnn:distill=BERT,dim=4,init_range=0.1", "init_range is for embeddings=random"),
        ("static:distill=no-such-org/no-such-model", "give the folder of a model, a name of the hub"),
        ("static:distill=STUDENT,dim=4", "is not a transformer with one tower"),
    ],
)
def test_impossible_students_are_refused(spec, message, bert, tmp_path):
    if "STUDENT" in spec:
        student("static:embeddings=random,dim=4,vocabulary=270").save(str(tmp_path / "student"))
    with pytest.raises(InputError, match=message) as caught:
        student(spec.replace("BERT", str(bert)).replace("STUDENT", str(tmp_path / "student")))
    assert "\n" not in str(caught.value)


def test_a_spec_with_a_teachers_folder_holds_from_anywhere(bert, monkeypatch):
    monkeypatch.chdir(bert.parent)
    assert absolute_paths(ENCODERS, f"static:distill={bert.name}") == f"static:distill={bert}"
    assert absolute_paths(ENCODERS, "rnn:distill=minilm") == "rnn:distill=minilm"
