"""The old place of :class:`sentemb.encoders.GRU`, by which checkpoints of version 0.1 name it."""

from sentemb.encoders import GRU as GRU
