"""Recurrent stacks of a training forward: over the real tokens of a batch, step by step, or over padded rows."""

from sentemb.forward.recurrent.choice import FORMS, recurrence_form
from sentemb.forward.recurrent.library import library_recurrence
from sentemb.forward.recurrent.packed import packed_recurrence, stacked_recurrence
from sentemb.forward.recurrent.padded import padded_recurrence
from sentemb.forward.recurrent.readout import READOUTS, read_out, readout_of
from sentemb.forward.recurrent.time_steps import TimeSteps

__all__ = [
    "FORMS",
    "READOUTS",
    "TimeSteps",
    "library_recurrence",
    "packed_recurrence",
    "padded_recurrence",
    "read_out",
    "readout_of",
    "recurrence_form",
    "stacked_recurrence",
]
