"""Neighbours never cross a document, whatever the window; several sources give pairs by their weights."""

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordPiece

from sentemb.corpus import Tokens
from sentemb.errors import InputError
from sentemb.pairs import (
    PAIRS,
    Pairs,
    Words,
    augment,
    contiguous,
    draw,
    drop_unusable_pairs,
    dropout,
    joined,
    labelled,
    neighbours,
    sample,
)
from sentemb.pairs.augmentations import AUGMENTATIONS, Noise


def listed(pairs: Pairs) -> list[list[int]]:
    return np.asarray(pairs.rows).tolist()


def test_neighbours_by_hand():
    ranges = np.array([[0, 3], [3, 4], [4, 6]])
    assert listed(neighbours(ranges)) == [[0, 1], [1, 2], [4, 5]]
    assert listed(neighbours(ranges, window=2)) == [[0, 1], [1, 2], [4, 5], [0, 2]]
    assert listed(neighbours(ranges, both=True)) == [[0, 1], [1, 2], [4, 5], [1, 0], [2, 1], [5, 4]]


def test_neighbours_equal_the_loop_on_random_documents():
    stops = np.random.default_rng(0).integers(0, 9, 50).cumsum()
    ranges = np.stack([np.r_[0, stops[:-1]], stops], axis=1)
    for window in (1, 3):
        slow = [(i, i + w) for w in range(1, window + 1) for a, b in ranges for i in range(a, b - w)]
        assert listed(neighbours(ranges, window)) == [list(pair) for pair in slow]


def test_some_documents_and_documents_as_classes():
    ranges = np.array([[0, 3], [3, 4], [4, 6], [6, 9]])
    pairs = neighbours(ranges, window=2, both=True, classes=True)
    starts = ranges[:, 0]
    for (a, b), document in zip(listed(pairs), pairs.labels, strict=True):
        assert starts[document] <= min(a, b) and max(a, b) < ranges[document, 1]
    few = neighbours(ranges, documents=2, classes=True)  # the first and the last
    assert listed(few) == [[0, 1], [1, 2], [6, 7], [7, 8]] and few.labels.tolist() == [0, 0, 1, 1]
    assert listed(neighbours(ranges, documents=9)) == listed(neighbours(ranges))
    assert few.select(2, lambda numbers: numbers + 1).labels.tolist() == [0, 1]
    with pytest.raises(ValueError, match="documents"):
        neighbours(ranges, documents=-1)
    with pytest.raises(InputError, match="classes=true"):
        joined([few, few], [1.0, 2.0], 0)


def test_no_pairs_is_said():
    with pytest.raises(InputError, match="no document"):
        neighbours(np.array([[0, 1], [1, 2]]))
    with pytest.raises(ValueError, match="window"):
        neighbours(np.array([[0, 5]]), window=0)


def test_copies_and_empty_sides_are_left_out():
    rows = [[1, 2], [1, 2], [], [3], [4], [4, 5]]
    tokens = Tokens(np.array(sum(rows, [])), np.cumsum([0, *map(len, rows)]))
    names = tokens.distinct()
    assert names[0] == names[1] and len(set(names.tolist())) == 5
    ranges = np.array([[0, 6]])
    assert listed(usable_pairs(neighbours(ranges), tokens)) == [[3, 4], [4, 5]]
    assert listed(usable_pairs(dropout(ranges), tokens)) == [[i, i] for i in (0, 1, 3, 4, 5)]
    run = usable_pairs(contiguous(ranges), tokens)
    assert run.rows[:][:, 0].tolist() == run.positions[:].tolist() == [0, 1, 3, 4, 5]  # 1 and 3 are not neighbours


def usable_pairs(pairs, tokens):
    return drop_unusable_pairs(pairs, tokens)


def test_dropped_sentences_are_in_no_pair_and_part_no_others():
    tokens = Tokens(np.arange(6), np.arange(7))
    mask = np.array([True, True, False, True, True, True])
    ranges = np.array([[0, 6]])
    assert listed(drop_unusable_pairs(neighbours(ranges), tokens, mask)) == [[0, 1], [3, 4], [4, 5]]
    assert listed(drop_unusable_pairs(neighbours(ranges, window=2), tokens, mask)) == [
        [0, 1],
        [3, 4],
        [4, 5],
        [1, 3],
        [3, 5],
    ]
    run = drop_unusable_pairs(contiguous(ranges), tokens, mask)
    assert run.positions[:].tolist() == [0, 1, 3, 4, 5] and run.rows[1:3].tolist() == [[1], [3]]


def test_sources_are_seen_as_often_as_their_weights_say():
    parts = [neighbours(np.array([[0, 11]])), neighbours(np.array([[20, 25]])), neighbours(np.array([[30, 51]]))]
    pairs = joined(parts, [2.5, 1, 0.25], seed=4)
    first, second, third = (
        np.unique([row for row, _ in listed(pairs) if start <= row < stop], return_counts=True)
        for start, stop in ((0, 20), (20, 30), (30, 60))
    )
    assert len(pairs) == 25 + 4 + 5
    assert first[0].tolist() == list(range(10)) and sorted(first[1]) == [2] * 5 + [3] * 5
    assert second[0].tolist() == [20, 21, 22, 23] and set(second[1]) == {1}
    assert len(third[0]) == 5 and set(third[1]) == {1} and third[0].tolist() != [30, 31, 32, 33, 34]
    assert (
        listed(joined(parts, [2.5, 1, 0.25], seed=4)) == listed(pairs) != listed(joined(parts, [2.5, 1, 0.25], seed=5))
    )
    assert joined(parts[:1], [1.0], 0) is parts[0]
    with pytest.raises(InputError, match="cannot be weighted"):
        joined([contiguous(np.array([[0, 5]]))] * 2, [1, 2], 0)


def test_pairs_of_millions_take_no_memory():
    pairs = sample(neighbours(np.array([[0, 10**9], [10**9, 3 * 10**9]]), window=2, both=True), 10**9, 0)
    assert len(pairs) == 10**9
    rows = pairs.rows[np.arange(0, 10**9, 10**8)]
    assert ((np.abs(rows[:, 1] - rows[:, 0]) <= 2) & ((rows < 10**9).sum(axis=1) % 2 == 0)).all()


def test_draw_is_fixed_and_bounded():
    pairs = np.arange(40).reshape(20, 2)
    assert draw(pairs, 5, 0).tolist() == draw(pairs, 5, 0).tolist()
    assert len(draw(pairs, 99, 0)) == 20


def test_runs_know_their_neighbours_and_end_with_a_document():
    pairs = contiguous(np.array([[0, 3], [3, 4], [6, 8]]))
    assert pairs.are_contiguous and pairs.rows[:][:, 0].tolist() == [0, 1, 2, 3, 6, 7]
    places = pairs.positions[:]
    near = np.abs(places[:, None] - places) == 1
    assert np.argwhere(np.triu(near)).tolist() == [[0, 1], [1, 2], [4, 5]]


def test_labelled_rows_are_documents():
    assert listed(labelled(np.array([[0, 3], [3, 6]]))) == [[0, 1, 2], [3, 4, 5]]
    assert (
        labelled(np.array([[0, 3]])).num_hard_negatives == 1 and neighbours(np.array([[0, 3]])).num_hard_negatives == 0
    )
    with pytest.raises(InputError, match="labelled corpus"):
        labelled(np.array([[0, 3], [3, 5]]))


def test_a_sample_of_pairs_is_seeded_and_of_runs_the_beginning():
    pairs = dropout(np.array([[0, 50]]))
    assert listed(sample(pairs, 5, 0)) == listed(sample(pairs, 5, 0)) != listed(sample(pairs, 5, 1))
    assert sample(pairs, 5, 0).self_pairs and len(sample(pairs, None, 0)) == 50
    assert sample(contiguous(np.array([[0, 50]])), 5, 3).positions[:].tolist() == [0, 1, 2, 3, 4]


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


def test_composed_changes_follow_one_another():
    change = augment(np.array([[0, 1]]), "crop+delete", 0.2).noise.change
    for seed in range(20):
        rng = np.random.default_rng(seed)
        cropped = AUGMENTATIONS["crop"](10, 0.2, rng)
        expected = cropped[AUGMENTATIONS["delete"](8, 0.2, rng)]
        assert change(10, 0.2, np.random.default_rng(seed)).tolist() == expected.tolist()
        assert len(expected) == 6 and 0 < np.ptp(expected) <= 7


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
    with pytest.raises(InputError, match="unknown how"):
        augment(np.array([[0, 2]]), how="delete+translate")
    assert set(PAIRS) == {"neighbours", "contiguous", "dropout", "augment", "labelled", "passages"}
    assert Pairs(np.zeros((3, 4), dtype=int)).num_hard_negatives == 2
