"""The data of each update: the order of pairs, and batches of token ids."""

from sentemb.training.data.batches import Batch, BatchDataset, TrainingData
from sentemb.training.data.guide import Guide
from sentemb.training.data.samplers import (
    ContiguousSampler,
    EpochLayout,
    LengthBucketedSampler,
    pairs_per_rank,
    rank_share,
)
from sentemb.training.data.teacher import Teacher, TeacherArray

__all__ = [
    "Batch",
    "BatchDataset",
    "ContiguousSampler",
    "EpochLayout",
    "Guide",
    "LengthBucketedSampler",
    "Teacher",
    "TeacherArray",
    "TrainingData",
    "pairs_per_rank",
    "rank_share",
]
