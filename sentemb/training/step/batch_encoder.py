"""Embeddings of a batch's columns, with random numbers that depend on the seed, the step and the part alone."""

import random
from collections.abc import Sequence

import numpy as np
import torch
from accelerate import Accelerator
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

from sentemb.forward import seed_dropout
from sentemb.training.data import Batch
from sentemb.training.momentum_encoder import MomentumEncoder
from sentemb.training.settings import TrainingSettings


class BatchEncoder:
    """Encodes a batch, whole or in parts, with the encoder that is trained and with its momentum encoder.

    Random numbers are seeded before each part: a resumed run needs no saved state of them, and a part that is encoded
    twice meets the same dropout masks.

    Args:
        encoder: the :class:`sentemb.forward.TrainingEncoder` as ``accelerator.prepare`` returned it.
        accelerator: device, precision and processes.
        settings: the seed, and the weight of masked-language modelling.
        momentum_encoder: encodes the targets; None: there are none.
    """

    def __init__(
        self,
        encoder: nn.Module,
        accelerator: Accelerator,
        settings: TrainingSettings,
        momentum_encoder: MomentumEncoder | None = None,
    ) -> None:
        self.encoder, self.accelerator, self.momentum_encoder = encoder, accelerator, momentum_encoder
        self.seed, self.mlm = settings.seed, settings.mlm
        self.encoding = False  # whether a backward pass is under way; True after one that failed

    @property
    def model(self) -> SentenceTransformer:
        """The model that is trained."""
        model: SentenceTransformer = self.accelerator.unwrap_model(self.encoder).model
        return model

    def columns(
        self, batch: Batch, part: slice, step: int, number: int, mlm: bool
    ) -> tuple[tuple[Tensor, ...], Tensor | None]:
        """Embeddings of each column of a part of a batch, and the loss of masked-language modelling.

        Args:
            batch: this process' pairs.
            part: which of them.
            step: number of the update.
            number: of the part.
            mlm: whether the second loss is wanted; else it is None, also where its weight is 0.
        """
        self.seed_generators(step, number)
        features = batch.features(self.model, part, self.accelerator.device)
        output = self.encoder(*features, masked=mlm and self.mlm > 0)
        embeddings, mlm_loss = output if isinstance(output, tuple) else (output, None)
        return embeddings.chunk(len(batch.columns)), mlm_loss

    def targets(self, batch: Batch, parts: Sequence[slice], step: int) -> tuple[Tensor, ...]:
        """Each column of a batch as the momentum encoder sees it, without a graph; () without one."""
        if self.momentum_encoder is None:
            return ()
        columns = []
        for number, part in enumerate(parts):
            self.seed_generators(step, number, 1)
            with self.accelerator.autocast():
                embeddings = self.momentum_encoder(*batch.features(self.model, part, self.accelerator.device))
            columns.append(embeddings.chunk(len(batch.columns)))
        return tuple(torch.cat(column) for column in zip(*columns, strict=True))

    def seed_generators(self, *numbers: int) -> None:
        """Seed every generator that a forward or an objective may draw from: of the step, the part, ..."""
        step, *rest = numbers
        seed = seed_of(self.seed, step, self.accelerator.process_index, *rest)
        random.seed(seed)
        np.random.seed(seed)
        seed_dropout(seed)


def seed_of(*numbers: int) -> int:
    """A seed below 2^32 that depends on all of the numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
