"""Neighbours never cross a document, and every epoch is a full, seeded, resumable pass."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from sentemb.augment import AUGMENTATIONS, Noise, Words
from sentemb.corpus import Tokens
from sentemb.pairs import (
    PAIRS,
    Pairs,
    augment,
    batch_sizes,
    batches,
    contiguous,
    draw,
    dropout,
    labelled,
    neighbours,
    runs,
    sample,
    usable,
)
from sentemb.registry import InputError


def test_neighbours_by_hand():
    ranges = np.array([[0, 3], [3, 4], [4, 6]])
    assert neighbours(ranges).rows.tolist() == [[0, 1], [1, 2], [4, 5]]
    assert neighbours(ranges, window=2).rows.tolist() == [[0, 1], [1, 2], [4, 5], [0, 2]]
    assert neighbours(ranges, both=True).rows.tolist() == [[0, 1], [1, 2], [4, 5], [1, 0], [2, 1], [5, 4]]


def test_neighbours_equal_the_loop_on_random_documents():
    stops = np.random.default_rng(0).integers(0, 9, 50).cumsum()
    ranges = np.stack([np.r_[0, stops[:-1]], stops], axis=1)
    for window in (1, 3):
        slow = [(i, i + w) for w in range(1, window + 1) for a, b in ranges for i in range(a, b - w)]
        assert neighbours(ranges, window).rows.tolist() == [list(pair) for pair in slow]


def test_no_pairs_is_said():
    with pytest.raises(InputError, match="no document"):
        neighbours(np.array([[0, 1], [1, 2]]))
    with pytest.raises(ValueError, match="window"):
        neighbours(np.array([[0, 5]]), window=0)


def test_copies_and_empty_sides_are_left_out():
    rows = [[1, 2], [1, 2], [], [3], [4], [4, 5]]
    tokens = Tokens(np.array(sum(rows, [])), np.cumsum([0, *map(len, rows)]))
    assert tokens.distinct().tolist() == [0, 0, 2, 3, 4, 5]
    ranges = np.array([[0, 6]])
    assert kept(neighbours(ranges), tokens).rows.tolist() == [[3, 4], [4, 5]]
    assert kept(dropout(ranges), tokens).rows.tolist() == [[i, i] for i in (0, 1, 3, 4, 5)]
    run = kept(contiguous(ranges), tokens)
    assert run.rows[:, 0].tolist() == run.positions.tolist() == [0, 1, 3, 4, 5]  # 1 and 3 are no neighbours


def kept(pairs, tokens):
    return usable(pairs, tokens.lengths(), tokens.distinct())


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("pairs", [5, 64, 100, 1001])
def test_an_epoch_sees_each_pair_once_whatever_the_processes(pairs, processes):
    lengths = np.random.default_rng(1).integers(1, 40, pairs)
    ranks = [list(batches(lengths, 8, processes, rank, seed=3, epoch=0, window=4)) for rank in range(processes)]
    sizes = batch_sizes(pairs, 8, processes)
    seen = [pair for rank in ranks for batch in rank for pair in batch.tolist()]
    assert len(seen) == len(set(seen)) == sum(sizes) > pairs - 2 * processes
    assert all(len({len(rank[i]) for rank in ranks}) == 1 for i in range(len(sizes)))  # equal on all processes


def test_two_processes_share_the_batches_of_one():
    lengths = np.random.default_rng(1).integers(1, 40, 300)
    one = list(batches(lengths, 16, 1, 0, seed=5, epoch=2))
    two = [list(batches(lengths, 8, 2, rank, seed=5, epoch=2)) for rank in range(2)]
    for whole, *parts in zip(one[:-1], *two, strict=False):
        assert sorted(whole) == sorted(np.concatenate(parts))


def test_order_depends_on_seed_and_epoch_only():
    lengths = np.arange(100)

    def flat(seed, epoch):
        return np.concatenate(list(batches(lengths, 7, 1, 0, seed, epoch))).tolist()

    assert flat(0, 0) == flat(0, 0) != flat(0, 1)
    assert flat(0, 0) != flat(1, 0)


def test_batches_pad_little():
    lengths = np.random.default_rng(2).integers(1, 60, 6400)
    waste = [1 - lengths[b].mean() / lengths[b].max() for b in batches(lengths, 100, 1, 0, 0, 0, window=64)]
    assert np.mean(waste) < 0.03


def test_draw_is_fixed_and_bounded():
    pairs = np.arange(40).reshape(20, 2)
    assert draw(pairs, 5, 0).tolist() == draw(pairs, 5, 0).tolist()
    assert len(draw(pairs, 99, 0)) == 20


def test_runs_know_their_neighbours_and_end_with_a_document():
    pairs = contiguous(np.array([[0, 3], [3, 4], [6, 8]]))
    assert pairs.runs and pairs.rows[:, 0].tolist() == [0, 1, 2, 3, 6, 7]
    near = np.abs(pairs.positions[:, None] - pairs.positions) == 1
    assert np.argwhere(np.triu(near)).tolist() == [[0, 1], [1, 2], [4, 5]]


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("sentences", [5, 64, 100, 1001])
def test_an_epoch_of_runs_is_consecutive_and_sees_each_sentence_once(sentences, processes):
    lengths, starts = np.ones(sentences), set()
    for epoch in range(4):
        ranks = [list(runs(lengths, 8, processes, rank, seed=1, epoch=epoch)) for rank in range(processes)]
        joined = [np.concatenate(parts) for parts in zip(*ranks, strict=True)]
        assert all((np.diff(run) == 1).all() for run in joined)
        assert [len(run) for run in joined] == batch_sizes(sentences, 8, processes)
        seen = np.concatenate(joined)
        assert len(set(seen.tolist())) == len(seen) > sentences - 2 * processes
        starts.add(joined[0][0])
    assert sentences < 64 or len(starts) > 1  # cut elsewhere, in another order


def test_labelled_rows_are_documents():
    assert labelled(np.array([[0, 3], [3, 6]])).rows.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert labelled(np.array([[0, 3]])).negatives == 1 and neighbours(np.array([[0, 3]])).negatives == 0
    with pytest.raises(InputError, match="labelled corpus"):
        labelled(np.array([[0, 3], [3, 5]]))


def test_a_sample_of_pairs_is_seeded_and_of_runs_the_beginning():
    pairs = dropout(np.array([[0, 50]]))
    assert sample(pairs, 5, 0).rows.tolist() == sample(pairs, 5, 0).rows.tolist() != sample(pairs, 5, 1).rows.tolist()
    assert sample(pairs, 5, 0).views and len(sample(pairs, None, 0)) == 50
    assert sample(contiguous(np.array([[0, 50]])), 5, 3).positions.tolist() == [0, 1, 2, 3, 4]


VOCABULARY = {"[CLS]": 0, "[SEP]": 1, "un": 2, "##believ": 3, "##able": 4, "cat": 5, "sat": 6, "here": 7, "[UNK]": 8}


@pytest.mark.parametrize("how", AUGMENTATIONS)
def test_augmentations_change_whole_words_and_keep_the_special_tokens(how):
    words = Words.of(Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]")))
    ids = np.array([0, 5, 2, 3, 4, 6, 7, 5, 1])  # cat un-believ-able sat here cat
    noise, changed = augment(np.array([[0, 1]]), how, 0.3).noise, set()
    for seed in range(200):
        got = words.changed(ids, noise, np.random.default_rng(seed), 99).tolist()
        assert got[0] == 0 and got[-1] == 1 and got[1:-1]
        text = " ".join(map(str, got[1:-1]))
        rest = text.replace("2 3 4", "word")
        assert not {"2", "3", "4"} & set(rest.split())  # a word's pieces stay together
        changed.add(text)
        length = len(rest.split())
        if how == "repeat":
            assert 5 <= length <= 7
        elif how == "shuffle":
            assert sorted(rest.split()) == sorted(["5", "word", "6", "7", "5"])
        else:
            assert length == 5 - round(0.3 * 5)
        if how == "crop":
            assert rest in "5 word 6 7 5"
    assert len(changed) > 1


def test_one_word_is_deleted_at_rate_0_and_a_single_word_stays():
    words = Words.of(Tokenizer(WordPiece(VOCABULARY, unk_token="[UNK]")))
    rng = np.random.default_rng(0)
    assert len(words.changed(np.array([0, 5, 6, 7, 1]), Noise(AUGMENTATIONS["delete"], 0.0), rng, 99)) == 4
    for change in AUGMENTATIONS.values():
        assert 5 in words.changed(np.array([0, 5, 1]), Noise(change, 0.5), rng, 99)
    assert words.changed(np.array([0, 1]), Noise(AUGMENTATIONS["delete"], 0.5), rng, 99).tolist() == [0, 1]
    long = words.changed(np.array([0, *[5] * 20, 1]), Noise(AUGMENTATIONS["repeat"], 0.9), rng, 22)
    assert len(long) <= 22 and long[-1] == 1


def test_impossible_pairs_are_refused():
    with pytest.raises(ValueError, match="rate"):
        augment(np.array([[0, 2]]), rate=1.0)
    with pytest.raises(InputError, match="unknown how"):
        augment(np.array([[0, 2]]), how="translate")
    assert set(PAIRS) == {"neighbours", "contiguous", "dropout", "augment", "labelled"}
    assert Pairs(np.zeros((3, 4), dtype=int)).negatives == 2
