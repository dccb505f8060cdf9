"""A teacher's embeddings: equal to encode and to hidden states, each sentence once, kept, resumed, refused."""

import json
import pickle
import shutil

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import AutoModel

from benchmarks.shapes import bert_tokenizer
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.teacher import TeacherFolder, TeacherSpec, embed_corpus, parse_teacher, sentence_runs
from sentemb.teacher import embeddings as embeddings_module
from sentemb.teacher.estimate import Estimate, batches_of, seconds_left
from sentemb.teacher.model import TeacherModel
from sentemb.teacher.selection import distinct_sentences
from tests.conftest import SENTENCES

LENGTH = 12  # tokens
HALF = 2**-10  # relative rounding of float16, with room for sums in another order
TEXTS = [f"{word}: {sentence or 'Yes?'}" for word in ("one", "two", "three", "four") for sentence in SENTENCES]
TEXTS += TEXTS[3:9]  # copies


@pytest.fixture(scope="module")
def sentence_bert(bert, tmp_path_factory) -> str:
    """The same as a SentenceTransformer with a pooling of its own, unit length and a default prompt."""
    model = SentenceTransformer(
        modules=[Transformer(bert, max_seq_length=LENGTH), Pooling(8, "max"), Normalize()],
        prompts={"query": "query: "},
        default_prompt_name="query",
        device="cpu",
    )
    folder = tmp_path_factory.mktemp("sentence_bert")
    model.save(str(folder), create_model_card=False)
    return str(folder)


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    return open_corpus([TEXTS[:15], TEXTS[15:]])


@pytest.fixture
def embedded(monkeypatch) -> list[int]:
    """The number of sentences of each batch that a teacher embeds, measurements included."""
    counts: list[int] = []
    plain = TeacherModel.embed

    def counting(self, rows, prompt_length=0):
        counts.append(len(rows))
        return plain(self, rows, prompt_length)

    monkeypatch.setattr(TeacherModel, "embed", counting)
    return counts


def embeddings_of(spec: str, corpus, ranges=None, **more):
    every = np.array([[0, len(corpus)]]) if ranges is None else ranges
    return embed_corpus(TeacherFolder(parse_teacher(spec)), corpus, every, LENGTH, **more)


def assert_close(rows, expected):
    assert rows.dtype == np.float16 and rows.shape == expected.shape
    np.testing.assert_allclose(rows.astype(np.float32), expected, rtol=HALF, atol=HALF * np.abs(expected).max())


@pytest.mark.parametrize("options", ["", ':prompt="passage: "', ":prompt="])
def test_its_output_is_that_of_encode(options, sentence_bert, corpus):
    model = load(sentence_bert, device="cpu")
    prompt = {"": None, ':prompt="passage: "': "passage: ", ":prompt=": ""}[options]
    made = embeddings_of(sentence_bert + options, corpus)
    numbers = np.arange(len(corpus))[::-1]
    texts = [TEXTS[number] for number in numbers]
    assert_close(made.rows(numbers), model.encode(texts, prompt=prompt))
    assert made.dimension == 8 and np.allclose(np.linalg.norm(made.rows(numbers).astype(float), axis=1), 1, atol=1e-3)


def test_a_plain_transformer_is_pooled_by_its_mean(bert, corpus):
    model = SentenceTransformer(bert, device="cpu")
    model.max_seq_length = LENGTH
    assert_close(embeddings_of(bert, corpus).rows(np.arange(len(corpus))), model.encode(TEXTS))


def hidden_states(folder: str, texts):
    """States of each layer ``[layers + 1][n, L, d]`` and the mask, by transformers."""
    tokenizer = bert_tokenizer(SENTENCES)
    features = tokenizer(texts, padding=True, truncation=True, max_length=LENGTH, return_tensors="pt")
    with torch.no_grad():
        states = AutoModel.from_pretrained(folder).eval()(**features, output_hidden_states=True).hidden_states
    return states, features["attention_mask"][:, :, None]


@pytest.mark.parametrize(
    ("options", "layers", "pooling"),
    [
        ("layers=1-2", [1, 2], "mean"),
        ("layers=0-2", [0, 1, 2], "mean"),
        ("layers=2,pooling=cls", [2], "cls"),
        ("pooling=max", [3], "max"),
    ],
)
@pytest.mark.parametrize("packed", [True, False])
def test_layers_are_pooled_hidden_states_side_by_side(options, layers, pooling, packed, bert, corpus, monkeypatch):
    if not packed:
        monkeypatch.setattr("sentemb.forward.encoder.offset_of", lambda module: None)
    made = embeddings_of(f"{bert}:{options}", corpus)
    states, mask = hidden_states(bert, TEXTS)
    pooled = {
        "mean": lambda state: (state * mask).sum(1) / mask.sum(1),
        "cls": lambda state: state[:, 0],
        "max": lambda state: state.masked_fill(mask == 0, -torch.inf).max(1).values,
    }[pooling]
    expected = torch.cat([pooled(states[layer]) for layer in layers], dim=1).numpy()
    assert made.dimension == 8 * len(layers)
    assert_close(made.rows(np.arange(len(corpus))), expected)


def layers_of(model: TeacherModel) -> int:
    return len(model.encoder.model[0].auto_model.encoder.layer)


def test_layers_above_those_asked_for_are_not_computed_unless_they_matter(bert):
    counts = [layers_of(TeacherFolder(parse_teacher(f"{bert}:layers={n}")).read()) for n in ("1", "0-2", "3")]
    assert counts == [1, 2, 3] and layers_of(TeacherFolder(TeacherSpec(bert)).read()) == 3

    def halve_last(module, arguments, out):  # as models do that end the last layer with a normalisation
        if out.hidden_states:
            out.hidden_states = (*out.hidden_states[:-1], out.hidden_states[-1] / 2)
        return out

    plain = Transformer(bert)
    plain.auto_model.register_forward_hook(halve_last)
    model = SentenceTransformer(modules=[plain, Pooling(8, "mean")], device="cpu")
    assert layers_of(TeacherModel(TeacherSpec(bert, layers="2"), model)) == 3


def test_layers_leave_a_prompt_out_where_the_teachers_pooling_does(bert, tmp_path, corpus):
    pooling = Pooling(8, "mean", include_prompt=False)
    model = SentenceTransformer(modules=[Transformer(bert, max_seq_length=LENGTH), pooling], device="cpu")
    model.save(str(tmp_path / "model"), create_model_card=False)
    numbers = np.arange(len(corpus))
    spec = f'{tmp_path / "model"}:prompt="query: "'
    expected = model.encode(TEXTS, prompt="query: ")
    assert_close(embeddings_of(spec, corpus).rows(numbers), expected)
    assert_close(embeddings_of(f"{spec},layers=3", corpus).rows(numbers), expected)


def test_a_recurrent_teacher(encoder, tmp_path, corpus):
    model = encoder("rnn:hidden=5,embeddings=random,vocabulary=200,dim=7", LENGTH)
    model.save(str(tmp_path / "model"))
    made = embeddings_of(str(tmp_path / "model"), corpus)
    assert_close(made.rows(np.arange(len(corpus))), model.encode(TEXTS))
    with pytest.raises(InputError, match="not a transformer and has no layers"):
        embeddings_of(f"{tmp_path / 'model'}:layers=1", corpus)


def test_each_distinct_sentence_is_embedded_once_and_only_those_asked_for(bert, corpus, embedded):
    corpus = open_corpus([TEXTS[:15], TEXTS[15:]], progress=False)
    made = embeddings_of(bert, corpus, np.array([[0, 10], [15, len(TEXTS)]]))
    chosen = [*TEXTS[:10], *TEXTS[15:]]
    assert sum(embedded) == len(made) == len(set(chosen)) < len(chosen)
    assert made.has(np.array([[0, 9], [10, 14], [15, 29]])).tolist() == [[True, True], [False, False], [True, True]]
    assert (made.rows(np.array([3, 4])) == made.rows(np.array([len(TEXTS) - 6, len(TEXTS) - 5]))).all()
    with pytest.raises(ValueError, match="sentence 12 of the corpus has no embedding"):
        made.rows(np.array([3, 12]))


def test_the_cache_is_used_and_each_option_has_a_place_of_its_own(bert, corpus, embedded):
    ranges = np.array([[0, len(corpus)]])
    first = embeddings_of(bert, corpus)
    count = len(embedded)
    assert embeddings_of(bert, corpus).folder == first.folder and len(embedded) == count
    others = [embeddings_of(f"{bert}:{option}", corpus).folder for option in ("layers=1", "pooling=cls", "prompt=a")]
    others.append(embeddings_of(bert, corpus, bf16=True).folder)
    others.append(embeddings_of(bert, corpus, ranges - [[0, 1]]).folder)
    others.append(embed_corpus(TeacherFolder(TeacherSpec(bert)), corpus, ranges, LENGTH - 1).folder)
    assert len({first.folder, *others}) == 7
    copy = pickle.loads(pickle.dumps(first))
    assert (copy.rows(np.arange(5)) == first.rows(np.arange(5))).all() and copy.fingerprint == first.fingerprint


def test_the_fingerprint_is_of_weights_and_not_of_versions(bert, tmp_path):
    before = TeacherFolder(TeacherSpec(bert)).fingerprint
    folder = tmp_path / "copy"
    shutil.copytree(bert, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"transformers_version": "9.9"}))
    (folder / "README.md").write_text("A card.")
    assert TeacherFolder(TeacherSpec(str(folder))).fingerprint == before
    (folder / "config.json").write_text(json.dumps(config | {"hidden_act": "relu"}))
    assert TeacherFolder(TeacherSpec(str(folder))).fingerprint != before
    (folder / "config.json").write_text(json.dumps(config))
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    assert TeacherFolder(TeacherSpec(str(folder))).fingerprint != before


class Killed(BaseException):
    """As a signal that ends the process: nothing tidies up."""


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_killed_pass_goes_on_and_its_bytes_are_those_of_one_in_one_go(after, bert, corpus, embedded, monkeypatch):
    monkeypatch.setattr(embeddings_module, "CHUNK", 5)
    monkeypatch.setattr(embeddings_module, "BATCH", {"cpu": 20})
    corpus = open_corpus([TEXTS[:15], TEXTS[15:]], progress=False)
    straight = embeddings_of(bert, corpus)
    expected = {path.name: path.read_bytes() for path in straight.folder.iterdir()}
    shutil.rmtree(straight.folder)
    embedded.clear()
    plain, chunks = embeddings_module._Pass.chunk, []

    def chunk(self, first, bar):
        if len(chunks) == after:
            raise Killed
        chunks.append(first)
        return plain(self, first, bar)

    with monkeypatch.context() as patched:
        patched.setattr(embeddings_module._Pass, "chunk", chunk)
        if after < 5:
            with pytest.raises(Killed):
                embeddings_of(bert, corpus)
            work = next(corpus.folder.glob(".teacher-*"))
            with (work / "embeddings.f16").open("ab") as file:
                file.write(b"half of a row that was being written")
        else:
            patched.setattr(embeddings_module.np, "save", lambda *arguments: (_ for _ in ()).throw(Killed()))
            with pytest.raises(Killed):
                embeddings_of(bert, corpus)
    made = embeddings_of(bert, corpus)
    assert made.folder == straight.folder
    assert {path.name: path.read_bytes() for path in made.folder.iterdir()} == expected
    assert sum(embedded) == len(made) == 24


def test_what_it_will_take_is_told_before_it_begins(bert, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    corpus = open_corpus([TEXTS[:15], TEXTS[15:]])
    embeddings_of(bert, corpus)
    printed = capsys.readouterr().err
    assert "teacher: 24 sentences x 8 in float16: 0 kB, about 1 second (" in printed
    text = str(Estimate(100_000, 100_000, 384, 245.0))
    assert text == "teacher: 100,000 sentences x 384 in float16: 77 MB, about 4.1 minutes (408 sentences/s)"
    text = str(Estimate(60_000, 100_000, 7680, 15_000.0))
    assert text.startswith("teacher: 60,000 left of 100,000 sentences x 7,680 in float16: 1.5 GB, about 4.2 hours (4 ")


class Clock:
    """A clock that only the embedding of sentences moves on: 1 s a batch and 0.01 s for each squared length."""

    def __init__(self, lengths):
        self.lengths, self.now = lengths, 0.0

    def embed(self, rows):
        self.now += 1 + 0.01 * float((self.lengths[rows].astype(float) ** 2).sum())


def test_the_estimate_is_right_where_long_sentences_cost_more_than_their_share(monkeypatch):
    lengths = np.minimum(np.random.default_rng(0).geometric(0.05, size=60_000) + 2, 128).astype(np.int64)
    clock = Clock(lengths)

    class Tokens:
        @staticmethod
        def lengths(rows):
            return lengths[rows]

    monkeypatch.setattr("sentemb.teacher.estimate.time.perf_counter", lambda: clock.now)
    rows = np.arange(len(lengths), dtype=np.int32)
    estimated = seconds_left(Tokens(), rows, 4096, clock.embed)
    clock.now = 0.0
    for first in range(0, len(rows), 4096):
        for places in batches_of(lengths[first : first + 4096], 4096):
            clock.embed(first + places)
    assert estimated == pytest.approx(clock.now, rel=0.1)


def test_batches_hold_each_sentence_once_and_are_of_like_length():
    lengths = np.array([5, 1, 9, 3, 3, 0, 7, 9, 2])
    batches = batches_of(lengths, 10)
    assert sorted(np.concatenate(batches)) == list(range(9))
    assert (np.diff(lengths[np.concatenate(batches)]) >= 0).all()
    assert all(lengths[places].sum() < 10 + 9 for places in batches) and len(batches) == 4


def test_distinct_sentences_by_hand(monkeypatch):
    monkeypatch.setattr("sentemb.teacher.selection.BLOCK", 2)
    rows, numbers = distinct_sentences(np.array([7, 5, 7, 9, 5, -(2**62), 2**62]), np.array([[0, 3], [4, 7]]))
    assert rows.tolist() == [5, 1, 0, 6]  # of the keys -2^62, 5, 7, 2^62
    assert numbers.tolist() == [2, 1, 2, -1, 1, 0, 3]
    keys = np.random.default_rng(0).integers(-(2**63), 2**63, size=50)[np.arange(90) % 50]
    rows, numbers = distinct_sentences(keys, np.array([[0, 90]]))
    assert (np.diff(keys[rows]) > 0).all() and (keys[rows[numbers]] == keys).all() and rows.max() < 50


@pytest.mark.parametrize("documents", [[1000, 400, 30, 3, 5000], [3] * 500, [2, 1, 40] * 50])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.97])
def test_runs_are_inside_of_their_documents_and_as_many_as_asked_for(documents, share):
    ends = 7 + np.cumsum(documents)
    ranges = np.stack([ends - documents, ends], axis=1)
    count = int(share * sum(documents))
    runs = sentence_runs(ranges, count)
    lengths = runs[:, 1] - runs[:, 0]
    assert count - 16 < lengths.sum() <= count
    document = np.searchsorted(ranges[:, 0], runs[:, 0], side="right") - 1
    assert (np.diff(document) > 0).all() and (runs[:, 1] <= ranges[document, 1]).all()
    assert (lengths >= np.minimum(16, np.array(documents)[document])).all()
    assert (sentence_runs(ranges, count) == runs).all()
    assert sentence_runs(ranges, sum(documents)) is not None and len(sentence_runs(ranges, 10**9)) == len(ranges)


@pytest.mark.parametrize(
    ("spec", "error"),
    [
        ("{bert}:layers=2-5", "has 3 layers, and layers=2-5 asks for number 5; give numbers from 1 to 3"),
        ("{bert}:layers=3-1", "layers are A-B or A"),
        ("{bert}:layers=some", "layers are A-B or A"),
        ("{bert}:layer=1", "unknown option of teacher .*did you mean 'layers'"),
        ("{bert}:pooling=sum", "unknown pooling 'sum'; valid: cls, last, max, mean"),
        ("nobody/nothing", "no model 'nobody/nothing' here or on the hub .*; give the folder of a model"),
        (":layers=1", "names no teacher"),
    ],
)
def test_bad_teachers_are_refused_in_a_sentence(spec, error, bert, corpus):
    with pytest.raises(InputError, match=error) as raised:
        embeddings_of(spec.format(bert=bert), corpus)
    assert "\n" not in str(raised.value)


def test_a_teacher_that_needs_code_is_refused(bert, tmp_path, corpus):
    shutil.copytree(bert, tmp_path / "coded")
    config = json.loads((tmp_path / "coded" / "config.json").read_text())
    coded = {"model_type": "mine", "auto_map": {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}}
    (tmp_path / "coded" / "config.json").write_text(json.dumps(config | coded))
    (tmp_path / "coded" / "mine.py").write_text("raise SystemExit('this ran')")
    with pytest.raises(InputError, match="needs Python code of its own .* which sentemb never runs"):
        embeddings_of(str(tmp_path / "coded"), corpus)


@pytest.mark.parametrize("content", ['{"a": 1}', '["Transformer"]'])
def test_modules_that_are_no_list_of_modules_are_refused(content, sentence_bert, tmp_path):
    shutil.copytree(sentence_bert, tmp_path / "odd")
    (tmp_path / "odd" / "modules.json").write_text(content)
    with pytest.raises(InputError, match="is not a list of modules"):
        TeacherFolder(parse_teacher(str(tmp_path / "odd")))


def test_a_pickle_is_refused(bert, tmp_path, corpus):
    shutil.copytree(bert, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").rename(tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(InputError, match="is a pickle"):
        embeddings_of(str(tmp_path / "pickled"), corpus)


def test_fewer_sentences_than_dimensions_are_refused(bert, corpus):
    with pytest.raises(InputError, match="have 32 dimensions, and there are only 24 distinct sentences"):
        embeddings_of(f"{bert}:layers=0-3", corpus)
    assert not list(corpus.folder.glob("*teacher*"))


def test_a_full_disk_is_one_sentence_and_nothing_done_is_lost(bert, corpus, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(9, 9, 100))
    with pytest.raises(InputError, match=r"is full, so the embedding of .* by the teacher \(0 kB\) was not prepared"):
        embeddings_of(bert, corpus)


def test_numbers_beyond_float16_are_refused(bert, corpus, monkeypatch):
    monkeypatch.setattr(
        TeacherModel, "embed", lambda self, rows, prompt_length=0: np.full((len(rows), 8), np.inf, np.float16)
    )
    with pytest.raises(InputError, match="float16 cannot hold"):
        embeddings_of(bert, corpus)
