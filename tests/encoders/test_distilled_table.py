"""Distilled tables: each row is what the teacher makes of an entry, and a student loads and trains as any other."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer, normalizers, pre_tokenizers, processors
from tokenizers.models import WordPiece
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, RobertaConfig, RobertaModel

from sentemb.encoders import ENCODERS, NamedTexts, distilled_table, learn_vocabulary, load, tokenizer_of
from sentemb.encoders.distilled_table import principal_components
from sentemb.errors import InputError
from sentemb.registry import absolute_paths, build
from tests.conftest import SENTENCES
from tests.devices import SINGLE
from tests.encoders.test_factory import trained_forward

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[unused0]"]
WORDS = ["the", "rain", "on", "it", "went", "cafe", "new", "in", ".", ",", "!", "##ing", "##ter"]
LETTERS = [mark + letter for mark in ("", "##") for letter in "abcdefghijklmnopqrstuvwxyz"]
SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 16}


def wrapped(tokenizer, names):
    """The tokenizer for transformers; ``names`` of its special tokens: pad, unk, cls, sep, mask."""
    kinds = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    ends = [(name, tokenizer.token_to_id(name)) for name in names[2:4]]
    tokenizer.post_processor = processors.TemplateProcessing(f"{names[2]} $A {names[3]}", special_tokens=ends)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **dict(zip(kinds, names, strict=True)))


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """The folder of a BERT with random weights and a vocabulary of a few words."""
    folder, vocabulary = tmp_path_factory.mktemp("bert"), [*SPECIAL, *LETTERS, *WORDS]
    tokenizer = Tokenizer(WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    torch.manual_seed(3)
    config = BertConfig(vocab_size=len(vocabulary), max_position_embeddings=40, initializer_range=0.3, **SIZES)
    BertModel(config).save_pretrained(folder)
    wrapped(tokenizer, SPECIAL[:5]).save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def student(spec, texts=lambda: SENTENCES, max_length=12):
    torch.manual_seed(0)
    return build(ENCODERS, spec, "encoder", texts=texts, max_length=max_length)


def rows_of(model):
    return dict(model[0].tokenizer.get_vocab()), model[0].embedding.weight.detach().numpy()


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
    # of all dimensions the components are a rotation, which leaves inner products
    centred = np.stack(list(expected.values())) - np.mean(list(expected.values()), axis=0)
    got = table[[vocabulary[token] for token in expected]]
    products = centred @ centred.T
    np.testing.assert_allclose(got @ got.T, products / np.trace(products) * len(expected), atol=1e-3)
    assert not table[[vocabulary[token] for token in SPECIAL]].any()
    assert np.square(got).sum(axis=1).mean() == pytest.approx(1, abs=1e-4)


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
    _, ranked = rows_of(student(spec))
    tokens = [token for token, _ in sorted(vocabulary.items(), key=lambda item: item[1]) if token not in SPECIAL]
    numbers = [vocabulary[token] for token in tokens]
    by_rank = np.linalg.norm(ranked[numbers], axis=1) / np.linalg.norm(plain[numbers], axis=1)
    np.testing.assert_allclose(by_rank / by_rank[0] * np.log(2), np.log(1 + np.arange(1, len(tokens) + 1)), rtol=1e-4)
    texts = ["the rain", "the ?", "the rain on it"]  # 8 entries, one of them unknown
    _, smooth = rows_of(student(f"{spec},weighting=sif", lambda: texts))
    by_share = np.linalg.norm(smooth[numbers], axis=1) / np.linalg.norm(plain[numbers], axis=1)
    share = {"the": 3 / 8, "rain": 2 / 8, "on": 1 / 8, "it": 1 / 8}
    expected = np.array([1e-3 / (1e-3 + share.get(token, 0)) for token in tokens])
    np.testing.assert_allclose(by_share / by_share[0], expected, rtol=1e-4)
    with pytest.raises(InputError, match="weighting=sif counts the entries in the training texts, which have none"):
        student(f"{spec},weighting=sif", list)


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
    specs = [f"{kind}distill={bert},dim=8" for kind in ("static:", "rnn:hidden=3,")]
    first = [student(spec).encode(SENTENCES) for spec in reversed(specs)]
    with monkeypatch.context() as patch:
        patch.setattr(distilled_table, "read_model", lambda folder: pytest.fail("the teacher was read"))
        again = [student(spec).encode(SENTENCES) for spec in reversed(specs)]
        student(f"{specs[0]},weighting=none")  # another table of the same entries
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    for file in cache.glob("distilled/*/*"):
        file.write_bytes(b"damaged")
    assert np.array_equal(student(specs[1]).encode(SENTENCES), first[0])


def test_a_table_by_frequency_is_of_its_texts(bert):
    spec, read = f"static:distill={bert},dim=4,weighting=sif", []

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
        ("static:weighting=sif", "weighting=sif is for a distilled table; add distill=TEACHER"),
        ("rnn:distill=BERT,dim=4,init_range=0.1", "init_range is for embeddings=random"),
        ("static:distill=no-such-org/no-such-model", "give the folder of a model, a name of the hub"),
        ("static:distill=STUDENT,dim=4", "is no transformer with one tower"),
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
