"""Pairs of passages: tokens of the joined text, within a section of a document, drawn by seed, epoch and pair alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers

from sentemb.corpus import open_corpus
from sentemb.encoders import Prompts, set_prompts, tokenizer_of, two_towers
from sentemb.errors import InputError
from sentemb.forward import TrainingEncoder
from sentemb.objectives import build_objective
from sentemb.pairs import (
    PAIRS,
    PassagePairs,
    PassageSettings,
    draw_chances,
    drop_unusable_pairs,
    joined,
    passage_text,
    sample,
)
from sentemb.pairs.passages import CHANCES, crop_spans, cut_section, sections
from sentemb.registry import build
from sentemb.training import BatchDataset, TeacherArray, TrainingData, refuse_misfit
from tests.devices import DEVICE, SINGLE, normal, numbers

THINGS = ("cat", "dog", "king", "queen", "ship", "poet", "child", "judge", "miller", "nurse")
DOCUMENTS = [
    {
        "document": f"d{number}",
        "title": f"The {thing} of part {part % 3}",
        "text": " ".join(f"The {thing} sees {THINGS[(number + part * k) % 10]} {k}{part}." for k in range(2 + part)),
    }
    for number, thing in enumerate(THINGS)
    for part in range(4)
]


def write_table(folder: Path, rows=DOCUMENTS) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Ten documents of four titled sections of two to five sentences."""
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    spec = f"table:path={write_table(tmp_path)},title=title,document=document,split_sentences=true"
    return open_corpus(spec, progress=False)


def learned(model: models.Model, trainer, pre_tokenizer, special: tuple[str, ...]) -> Tokenizer:
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    texts = [row["text"] for row in DOCUMENTS] + [row["title"] for row in DOCUMENTS] + ["query: passage:"]
    tokenizer.train_from_iterator(
        texts, trainer(vocab_size=200, special_tokens=["[UNK]", *special], show_progress=False)
    )
    if special:
        ids = [(token, tokenizer.token_to_id(token)) for token in special]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{special[0]} $A {special[-1]}", special_tokens=ids
        )
    return tokenizer


TOKENIZERS = {
    "wordpiece": lambda: learned(
        models.WordPiece(unk_token="[UNK]"),
        trainers.WordPieceTrainer,
        pre_tokenizers.BertPreTokenizer(),
        ("[CLS]", "[SEP]"),
    ),
    "words, nothing special": lambda: learned(
        models.WordLevel(unk_token="[UNK]"), trainers.WordLevelTrainer, pre_tokenizers.Whitespace(), ()
    ),
    "bytes, spaces tell": lambda: learned(
        models.BPE(unk_token="[UNK]"),
        trainers.BpeTrainer,
        pre_tokenizers.ByteLevel(add_prefix_space=False),
        ("<s>", "</s>"),
    ),
}


def made(corpus, spec: str, length: int = 40, tokenizer: Tokenizer | None = None, prompts=("", "")):
    """Pairs of the training documents, the tokenizer, and the tokens of both sides."""
    tokenizer = tokenizer or TOKENIZERS["wordpiece"]()
    sides = [corpus.tokens(tokenizer, length, prompt) for prompt in prompts]
    ranges = corpus.split()[0]
    pairs = build(PAIRS, spec, "pairs", ranges=ranges, text=lambda: passage_text(corpus, tokenizer, length, sides))
    return drop_unusable_pairs(pairs, sides[0]), tokenizer, sides


def encoded(tokenizer: Tokenizer, text: str, length: int) -> list[int]:
    tokenizer.enable_truncation(length)
    ids = tokenizer.encode(text).ids
    tokenizer.no_truncation()
    return ids


@pytest.mark.parametrize("prompts", [("", ""), ("query: ", "passage: ")])
@pytest.mark.parametrize("length", [14, 200])
@pytest.mark.parametrize("name", TOKENIZERS)
def test_both_sides_have_the_tokens_of_the_joined_texts(name, length, prompts, corpus):
    pairs, tokenizer, sides = made(corpus, "passages:sentences=4,removal=0.6", length, TOKENIZERS[name](), prompts)
    rows, chances = np.asarray(pairs.rows), draw_chances(0, 0, np.arange(len(pairs)))
    columns, _ = pairs.passages.columns(rows, chances, sides)
    removed = 0
    for number, (first, last) in enumerate(rows.tolist()):
        texts = corpus.sentences(range(first, last + 1))
        query = texts[int(chances[number, 0] * len(texts))]
        rest = [text for text in texts if text != query] if chances[number, 1] < 0.6 else texts
        removed += len(rest) < len(texts)
        assert columns[0][number].tolist() == encoded(tokenizer, prompts[0] + query, length)
        assert columns[1][number].tolist() == encoded(tokenizer, prompts[1] + " ".join(rest), length)
    assert 0 < removed < len(rows)

    pairs, tokenizer, sides = made(corpus, "passages:kind=title", length, tokenizer, prompts)
    columns, _ = pairs.passages.columns(np.asarray(pairs.rows), chances[: len(pairs)], sides)
    for number, (title, last) in enumerate(np.asarray(pairs.rows).tolist()):
        texts = corpus.sentences(range(title, last + 1))
        assert columns[0][number].tolist() == encoded(tokenizer, prompts[0] + texts[0], length)
        assert columns[1][number].tolist() == encoded(tokenizer, prompts[1] + " ".join(texts[1:]), length)


@numbers
@pytest.mark.parametrize("spec", ["transformer:name=TINY", "rnn:hidden=5,embeddings=random,dim=6,vocabulary=270"])
def test_the_training_forward_of_passages_equals_encode(spec, encoder, corpus):
    model = encoder(spec, 34).to(DEVICE).eval()
    prompts = Prompts("say: ", "")
    set_prompts(model, prompts)
    pairs, _, sides = made(corpus, "passages:removal=1", 34, tokenizer_of(model), ("say: ", ""))
    data = BatchDataset(TrainingData(pairs, *sides), 3, 16)
    batch = data[0]
    with torch.no_grad():
        embeddings = TrainingEncoder(model)(*batch.features(model, slice(0, 16), DEVICE)).cpu().numpy()
    expected = [[], []]
    chances = draw_chances(3, 0, batch.pair_indices)
    for (first, last), drawn in zip(pairs.rows[batch.pair_indices].tolist(), chances, strict=True):
        texts = corpus.sentences(range(first, last + 1))
        query = texts.pop(int(drawn[0] * len(texts)))
        expected[0].append(query)
        expected[1].append(" ".join(texts))
    rows = [model.encode(texts, prompt=prompt) for texts, prompt in zip(expected, ("say: ", ""), strict=True)]
    assert np.abs(embeddings - np.concatenate(rows)).max() < SINGLE


def slow_sections(ranges, titles):
    out = []
    for start, stop in ranges:
        begin, below = start, False
        for row in range(start, stop):
            if row in titles:
                out.append((begin, row, below))
                begin, below = row + 1, True
        out.append((begin, stop, below))
    return [section for section in out if section[0] < section[1]]


def test_sections_equal_the_loop_over_sentences():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        stops = rng.integers(0, 7, 12).cumsum()
        ranges = np.stack([np.r_[0, stops[:-1]], stops], axis=1)[rng.random(12) < 0.7]
        titles = np.flatnonzero(rng.random(int(stops[-1])) < 0.3)
        assert list(sections(ranges, titles)) == slow_sections(ranges.tolist(), set(titles.tolist()))


def test_passages_are_as_long_as_their_bounds_let_them_be():
    lengths = np.array([5, 5, 30, 1, 1, 1, 9])
    assert list(cut_section(lengths, 0, 10, 1)) == [(0, 2), (2, 3), (3, 6), (6, 7)]
    assert list(cut_section(lengths, 0, 12, 2)) == [(0, 2), (2, 4), (4, 7)]  # two sentences though they have 31 tokens
    assert list(cut_section(lengths, 3, 0, 1)) == [(0, 3), (3, 6), (6, 7)]
    assert list(cut_section(lengths, 3, 0, 2)) == [(0, 3), (3, 6)]  # the last one alone makes none
    assert list(cut_section(lengths, 2, 6, 1)) == [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6), (6, 7)]
    assert list(cut_section(lengths, 0, 0, 1)) == [(0, 7)] and list(cut_section(lengths[:0], 0, 0, 1)) == []


def test_a_passage_lies_in_one_section_of_one_training_document(corpus):
    held_out = corpus.split()[1]
    assert len(held_out) and len(corpus.titles) == 40
    for spec in ("passages", "passages:kind=crops,tokens=30", "passages:kind=title", "passages:sentences=2"):
        rows = np.asarray(made(corpus, spec)[0].rows)
        document = np.searchsorted(corpus.documents, rows, side="right")
        assert (document[:, 0] == document[:, 1]).all() and (rows[:, 0] < rows[:, 1]).all()
        assert (rows < held_out[0, 0]).all()
        for first, last in rows.tolist():
            assert not np.isin(corpus.titles, range(first + ("title" in spec), last + 1)).any()
        flat = [row for first, last in rows.tolist() for row in range(first, last + 1)]
        assert len(flat) == len(set(flat)), "no sentence is in two passages"
    titles = np.asarray(made(corpus, "passages:kind=title")[0].rows)[:, 0]
    assert titles.tolist() == [row for row in corpus.titles if row < held_out[0, 0]]
    assert corpus.sentences(titles[:2]) == ["The cat of part 0", "The cat of part 1"]


def test_as_many_sentences_as_the_length_leaves_room_for(corpus):
    for length in (20, 60):
        pairs, tokenizer, sides = made(corpus, "passages:removal=0", length, prompts=("query: ", ""))
        room = length - 2 - len(tokenizer.encode("query: ", add_special_tokens=False).ids)
        assert pairs.passages.text.room == room
        sizes = sides[1].lengths() - 2
        for first, last in np.asarray(pairs.rows).tolist():
            section = next(
                s
                for s in slow_sections(corpus.split()[0].tolist(), set(corpus.titles.tolist()))
                if s[0] <= first < s[1]
            )
            assert last == first + 1 or sizes[first : last + 1].sum() <= room
            assert last + 2 >= section[1] or sizes[first : last + 2].sum() > room
        lengths = pairs.passages.lengths(np.asarray(pairs.rows))
        slow = [min(room, sizes[a : b + 1].sum()) for a, b in np.asarray(pairs.rows).tolist()]
        assert lengths.tolist() == slow


def test_the_sentence_is_removed_in_nine_of_ten_pairs_and_any_is_drawn(corpus):
    pairs, _, sides = made(corpus, "passages:sentences=5", 200)
    rows = np.repeat(np.asarray(pairs.rows)[-1:], 4000, axis=0)
    sentences = [ids[1:-1].tolist() for ids in sides[0].rows(np.arange(rows[0, 0], rows[0, 1] + 1))]
    (queries, passages), ids = pairs.passages.columns(rows, draw_chances(1, 0, np.arange(4000)), sides)
    drawn, removed = np.zeros(len(sentences)), 0
    for query, passage in zip(queries, passages, strict=True):
        number = sentences.index(query[1:-1].tolist())
        drawn[number] += 1
        others = [each for i, each in enumerate(sentences) if i != number]
        without = passage[1:-1].tolist() == sum(others, [])
        assert without or passage[1:-1].tolist() == sum(sentences, [])
        removed += without
    assert removed / 4000 == pytest.approx(0.9, abs=0.02)
    assert drawn / 4000 == pytest.approx(1 / len(sentences), abs=0.03)
    assert len(set(ids[:, 1].tolist())) == 1 and len(set(ids[:, 0].tolist())) == len(sentences)


@pytest.mark.parametrize("overlap", [True, False])
def test_crops_are_runs_of_their_passage_of_the_lengths_asked_for(overlap):
    settings = PassageSettings("crops", shortest=0.1, longest=0.5, overlap=overlap)
    starts, sizes, meet, first_is_earlier = [], [], 0, 0
    for drawn in draw_chances(0, 0, np.arange(5000)):
        one, two = crop_spans(50, drawn, settings)
        for span in (one, two):
            assert 0 <= span.start < span.stop <= 50 and 5 <= span.stop - span.start <= 25
            starts.append(span.start)
            sizes.append(span.stop - span.start)
        meet += one.start < two.stop and two.start < one.stop
        first_is_earlier += one.start < two.start
    assert (meet > 1000) if overlap else (meet == 0)
    assert first_is_earlier / 5000 == pytest.approx(0.5, abs=0.03)
    assert np.mean(sizes) == pytest.approx(14.5, abs=0.5) and min(starts) == 0 and max(sizes) in (24, 25)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_crops_of_few_tokens(count):
    for drawn in np.vstack(
        [draw_chances(0, 0, np.arange(300)), np.zeros((1, CHANCES)), np.full((1, CHANCES), 1 - 2**-53)]
    ):
        for span in crop_spans(count, drawn, PassageSettings("crops", shortest=1.0, longest=1.0)):
            assert (span.start, span.stop) == (0, count)
        if count > 1:
            one, two = crop_spans(count, drawn, PassageSettings("crops", shortest=0.5, longest=0.5, overlap=False))
            assert not (one.start < two.stop and two.start < one.stop) and max(one.stop, two.stop) <= count


def test_crops_are_of_the_tokens_of_one_passage(corpus):
    pairs, _, sides = made(corpus, "passages:kind=crops,tokens=40,shortest=0.2", 12, prompts=("query: ", ""))
    rows = np.asarray(pairs.rows)
    columns, ids = pairs.passages.columns(rows, draw_chances(0, 0, np.arange(len(rows))), sides)
    prompt = sides[0][0][: sides[0].prompt_length].tolist()
    for number, (first, last) in enumerate(rows.tolist()):
        stream = " ".join(str(i) for row in corpus_tokens(pairs, first, last) for i in row)
        one, two = columns[0][number].tolist(), columns[1][number].tolist()
        assert one[: len(prompt)] == prompt and len(one) <= 12 and len(two) <= 12
        for body in (one[len(prompt) : -1], two[1:-1]):
            assert body and " ".join(map(str, body)) in stream
    assert (ids[:, 0] == ids[:, 1]).all() and len(set(ids[:, 0].tolist())) == len(rows)


def corpus_tokens(pairs, first, last):
    return [ids[1:-1].tolist() for ids in pairs.passages.text.tokens.rows(np.arange(first, last + 1))]


def test_what_is_drawn_follows_from_seed_epoch_and_pair():
    chances = draw_chances(0, 0, np.arange(20_000))
    assert chances.shape == (20_000, CHANCES) and chances.min() >= 0 and chances.max() < 1
    assert np.array_equal(draw_chances(0, 0, np.array([17, 3])), chances[[17, 3]])
    assert (
        np.abs(chances.mean(axis=0) - 0.5).max() < 0.02
        and np.abs(np.corrcoef(chances.T) - np.eye(CHANCES)).max() < 0.04
    )
    for other in (
        draw_chances(1, 0, np.arange(20_000)),
        draw_chances(0, 1, np.arange(20_000)),
        np.roll(chances, 1, axis=0),
    ):
        assert abs(np.corrcoef(chances[:, 0], other[:, 0])[0, 1]) < 0.04


@pytest.mark.parametrize("spec", ["passages", "passages:kind=crops", "passages:kind=title"])
def test_processes_share_a_batch_and_another_epoch_draws_others(spec, corpus):
    pairs, _, sides = made(corpus, spec)
    data = TrainingData(pairs, sides[0])

    def texts(step, seed=0, world=1):
        batches = [BatchDataset(data, seed, 8 // world, world, rank, smallest_batch=4)[step] for rank in range(world)]
        return sorted(tuple(map(tuple, pair)) for b in batches for pair in zip(*b.columns, strict=True))

    assert texts(0) == texts(0) == texts(0, world=2)
    steps = len(BatchDataset(data, 0, 8, smallest_batch=4))
    first, second = ([pair for step in range(steps) for pair in texts(step + epoch * steps)] for epoch in (0, 1))
    assert len(first) == len(second) == len(pairs)
    assert (sorted(first) == sorted(second)) == ("title" in spec)
    batch = BatchDataset(data, 0, 8)[0]
    assert batch.ids.shape == (8, 2) and batch.ids.dtype == torch.int64 and batch.positions is batch.labels is None


def test_equal_titles_and_copied_passages_are_no_negatives(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    rows = [
        {"title": f"The {THINGS[i % 2]}", "text": f"The ship sees {i % 3}. The poet sees the child."} for i in range(36)
    ]
    corpus = open_corpus(f"table:path={write_table(tmp_path, rows)},title=title,split_sentences=true", progress=False)
    for spec, apart in (("passages:kind=title", 2), ("passages:kind=crops,shortest=0.2", 3), ("passages", 3)):
        pairs, _, sides = made(corpus, spec, 200)
        _, ids = pairs.passages.columns(np.asarray(pairs.rows), draw_chances(0, 0, np.arange(len(pairs))), sides)
        assert len(set(ids[:, 1].tolist())) == apart


def test_sentences_that_are_not_worth_it_are_in_no_text(corpus):
    pairs, tokenizer, sides = made(corpus, "passages:removal=0,sentences=3", 200)
    mask = np.ones(len(corpus), dtype=bool)
    first = int(pairs.rows[:][2, 0])
    mask[first + 1] = mask[corpus.titles[3]] = False
    mask[pairs.rows[:][4, 0] + 1 :][: int(pairs.rows[:][4, 1] - pairs.rows[:][4, 0])] = False
    left = drop_unusable_pairs(pairs, sides[0], mask)
    assert len(left) == len(pairs) - 1 and pairs.rows[:][4].tolist() not in left.rows[:].tolist()
    columns, _ = left.passages.columns(left.rows[:][2:3], np.zeros((1, CHANCES)), sides)
    expected = " ".join(corpus.sentences([first, *range(first + 2, int(pairs.rows[:][2, 1]) + 1)]))
    assert columns[1][0].tolist() == encoded(tokenizer, expected, 200)
    titles, _, _ = made(corpus, "passages:kind=title", 200)
    assert corpus.titles[3] not in drop_unusable_pairs(titles, sides[0], mask).rows[:][:, 0]


def test_copies_of_a_sentence_leave_its_passage_with_it_or_make_none(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "lines.txt"
    yes, no = "The cat.", "The dog."
    documents = [(yes, no, yes), (yes, yes), *[(yes, no)] * 30]
    path.write_text("\n\n".join("\n".join(document) for document in documents))
    corpus = open_corpus(f"lines:path={path}", progress=False)
    pairs, tokenizer, sides = made(corpus, "passages:removal=1", 60)
    assert pairs.rows[:][:2].tolist() == [[0, 2], [5, 6]]
    columns, _ = pairs.passages.columns(pairs.rows[:][:1], np.zeros((1, CHANCES)), sides)
    assert [column[0].tolist() for column in columns] == [encoded(tokenizer, text, 60) for text in (yes, no)]


def test_passages_are_sampled_and_weighted_as_other_pairs(corpus):
    pairs, _, _ = made(corpus, "passages")
    few = sample(pairs, 5, 0)
    assert len(few) == 5 and few.passages is pairs.passages
    both = joined([pairs, pairs], [1.0, 2.0], 0)
    assert len(both) == 3 * len(pairs) and both.passages is not None


@pytest.mark.parametrize(
    "spec, message",
    [
        ("passages:kind=titel", "did you mean 'title'"),
        ("passages:sentences=1", "sentences must be at least 2 for kind=inverse_cloze"),
        ("passages:tokens=-1", "tokens must be at least 1"),
        ("passages:removal=1.5", "removal must lie in"),
        ("passages:kind=crops,removal=0.5", "removal belongs to kind=inverse_cloze; leave it out for kind=crops"),
        ("passages:longest=0.4", "longest belongs to kind=crops"),
        ("passages:kind=crops,shortest=0", "0 < shortest"),
        ("passages:kind=crops,shortest=0.6", "0 < shortest <= longest"),
        ("passages:kind=crops,longest=0.6,overlap=no", "at most half of a passage"),
    ],
)
def test_impossible_passages_are_refused(spec, message, corpus):
    with pytest.raises(InputError, match=message):
        made(corpus, spec)


def test_what_a_corpus_lacks_is_said(book_file, tmp_path, monkeypatch):
    monkeypatch.setenv("SENTEMB_CACHE", str(tmp_path / "cache"))
    plain = open_corpus(str(book_file), progress=False)
    with pytest.raises(InputError, match="needs? .*titles, and this one has none; give a table .*title=COLUMN"):
        made(plain, "passages:kind=title")
    with pytest.raises(InputError, match="pass text="):
        build(PAIRS, "passages", "pairs", ranges=plain.split()[0])
    alone = PassagePairs(passage_text(plain, TOKENIZERS["wordpiece"](), 20), PassageSettings())
    with pytest.raises(InputError, match="holds a passage of 2 sentences"):
        alone.bounds(np.array([[0, 1], [5, 6]]))


def test_what_knows_sentences_only_refuses_passages(corpus):
    pairs, _, sides = made(corpus, "passages")
    with pytest.raises(InputError, match="a teacher works on single sentences"):
        TrainingData(pairs, sides[0], teacher=TeacherArray(normal(len(corpus), 3).cpu().numpy()))
    with pytest.raises(InputError, match="objective memory_bank works on single sentences"):
        refuse_misfit(build_objective("memory_bank"), pairs)


def test_two_towers_take_a_side_each(encoder, corpus):
    model = two_towers(encoder("transformer:name=TINY"), encoder("transformer:name=TINY")).eval()
    pairs, _, sides = made(corpus, "passages:kind=title", 34, tokenizer_of(model))
    batch = BatchDataset(TrainingData(pairs, sides[0]), 0, 8, towers=2)[0]
    features = batch.features(model, slice(0, 8), torch.device("cpu"))
    assert [len(side["input_ids"]) for side in features] == [8, 8]
    assert features[0]["input_ids"].shape[1] < features[1]["input_ids"].shape[1]
