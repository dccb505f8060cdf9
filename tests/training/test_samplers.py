"""Every epoch sees each pair exactly once, whatever the processes; any update is found without those before it."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sentemb.corpus import Tokens
from sentemb.pairs import Pairs, contiguous, neighbours
from sentemb.training import BatchDataset, EpochLayout, TrainingData
from sentemb.training.data import Batch, ContiguousSampler, LengthBucketedSampler, pairs_per_rank, rank_share


def sizes(updates: EpochLayout) -> list[int]:
    return [updates.size(number) for number in range(len(updates))]


def order(
    pairs: int, batch_size: int, processes: int, seed: int = 3, window: int = 4, lengths=None
) -> LengthBucketedSampler:
    if lengths is None:
        lengths = np.random.default_rng(1).integers(1, 40, pairs)
    return LengthBucketedSampler(EpochLayout(pairs, batch_size, processes), lengths.__getitem__, seed, window)


@pytest.mark.parametrize(
    ("pairs", "batch", "processes", "expected"),
    [
        (12, 4, 1, [4, 4, 4]),
        (14, 4, 1, [4, 4, 4, 2]),
        (13, 4, 1, [4, 4, 5]),  # one pair alone has no negative: it goes into the batch before
        (19, 4, 2, [8, 11]),
        (20, 4, 2, [8, 8, 4]),
        (3, 4, 1, [3]),
        (5, 8, 2, [5]),
        (3, 8, 2, []),  # each process needs two
    ],
)
def test_sizes_by_hand(pairs, batch, processes, expected):
    updates = EpochLayout(pairs, batch, processes)
    assert sizes(updates) == expected
    if expected:
        assert updates.seen(len(expected)) == pairs and updates.seen(len(expected) + 1) == pairs + expected[0]


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("pairs", [6, 7, 64, 100, 1001, 1003])
def test_an_epoch_sees_each_pair_exactly_once_whatever_the_processes(pairs, processes):
    sampler = order(pairs, 8, processes)
    for epoch in range(2):
        steps = range(epoch * len(sampler.updates), (epoch + 1) * len(sampler.updates))
        parts = [
            [rank_share(sampler[step], rank, processes, runs=False) for rank in range(processes)] for step in steps
        ]
        assert Counter(np.concatenate([part for each in parts for part in each]).tolist()) == Counter(range(pairs))
        for each, size in zip(parts, sizes(sampler.updates), strict=True):
            assert tuple(map(len, each)) == pairs_per_rank(size, processes) and min(map(len, each)) >= 2


def test_any_update_is_found_without_those_before_it():
    sampler = order(1000, 7, 1)
    expected = [sampler[step].tolist() for step in range(400)]
    for step in (399, 0, 143, 142, 7):
        assert order(1000, 7, 1)[step].tolist() == expected[step]


def test_two_processes_share_the_batches_of_one():
    one, two = order(320, 16, 1), order(320, 8, 2)
    for step in range(len(one.updates)):
        assert one[step].tolist() == two[step].tolist()


def test_order_depends_on_seed_and_epoch_only():
    def epoch(seed: int, number: int) -> list[int]:
        sampler = order(100, 7, 1, seed)
        return np.concatenate(
            [sampler[number * len(sampler.updates) + i] for i in range(len(sampler.updates))]
        ).tolist()

    assert epoch(0, 0) == epoch(0, 0) != epoch(0, 1)
    assert epoch(0, 0) != epoch(1, 0)


def test_batches_pad_little_and_come_in_no_order_of_length():
    lengths = np.random.default_rng(2).integers(1, 60, 6400)
    sampler = order(6400, 100, 1, window=64, lengths=lengths)
    batches = [sampler[step] for step in range(64)]
    assert np.mean([1 - lengths[b].mean() / lengths[b].max() for b in batches]) < 0.03
    assert abs(np.corrcoef(np.arange(64), [lengths[b].mean() for b in batches])[0, 1]) < 0.5


@pytest.mark.parametrize("processes", [1, 2, 3])
@pytest.mark.parametrize("sentences", [6, 7, 64, 100, 1001])
def test_an_epoch_of_runs_is_consecutive_and_sees_each_sentence_once(sentences, processes):
    sampler, starts = ContiguousSampler(EpochLayout(sentences, 8, processes), seed=1), set()
    count = len(sampler.updates)
    for epoch in range(6):
        runs = [sampler[epoch * count + number] for number in range(count)]
        assert all((np.diff(run) == 1).all() for run in runs)
        assert [len(run) for run in runs] == sizes(sampler.updates)
        assert sorted(np.concatenate(runs).tolist()) == list(range(sentences))
        starts |= {int(run[0]) for run in runs}
        parts = [rank_share(runs[0], rank, processes, runs=True) for rank in range(processes)]
        assert np.concatenate(parts).tolist() == runs[0].tolist()
    assert sentences < 64 or sentences % (8 * processes) == 0 or len(starts) > count  # cut elsewhere in each epoch


def source(pairs: Pairs, world: int = 1, rank: int = 0, batch_size: int = 8) -> BatchDataset:
    rng = np.random.default_rng(0)
    offsets = np.concatenate([[0], rng.integers(1, 30, 400).cumsum()])
    tokens = Tokens(rng.integers(0, 1000, offsets[-1]).astype(np.uint16), offsets)
    return BatchDataset(TrainingData(pairs, tokens), 5, batch_size, world, rank)


def content(batch: Batch) -> list:
    return [[row.tolist() for row in column] for column in batch.columns] + [batch.ids.tolist()]


@pytest.mark.parametrize("kind", [neighbours, contiguous])
def test_batches_are_the_same_for_any_number_of_workers_and_from_any_step(kind):
    made = source(kind(np.array([[0, 150], [150, 400]])))
    alone = [content(batch) for batch in made.batches(0, 70)]
    for workers in (1, 4):
        assert [content(batch) for batch in made.batches(0, 70, workers)] == alone
    assert [content(batch) for batch in made.batches(61, 70)] == alone[61:]


@pytest.mark.parametrize("world", [1, 2, 3])
def test_each_pair_of_sentences_is_encoded_once_an_epoch(world):
    pairs = neighbours(np.array([[0, 101], [101, 103], [110, 400]]))
    seen: Counter[tuple[int, int]] = Counter()
    for rank in range(world):
        made = source(pairs, world, rank)
        names = {int(name): row for row, name in enumerate(made.data.tokens.distinct())}
        for batch in made.batches(0, len(made)):
            seen.update((names[a], names[b]) for a, b in batch.ids.tolist())
            assert len(batch) == (batch.pairs_per_rank or ())[rank]
    expected = [(row, row + 1) for a, b in ((0, 101), (101, 103), (110, 400)) for row in range(a, b - 1)]
    assert seen == Counter(expected)


def test_tokens_of_a_folder_are_mapped_again_and_not_copied_by_another_process(tmp_path: Path):
    import pickle

    from sentemb.corpus.tokens import open_tokens

    for name, values in (("ids", np.arange(6)), ("offsets", np.array([0, 2, 6])), ("keys", np.array([7, 8]))):
        np.save(tmp_path / f"{name}.npy", values)
    tokens = open_tokens(tmp_path)
    assert tokens is not None and len(text := pickle.dumps(tokens)) < 1000
    assert [row.tolist() for row in pickle.loads(text).rows(np.array([1, 0]))] == [[2, 3, 4, 5], [0, 1]]
