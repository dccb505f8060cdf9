"""The old place of :class:`sentemb.encoders.Towers`, by which checkpoints of version 0.1 name it."""

from sentemb.encoders import Towers as Towers
