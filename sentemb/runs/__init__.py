"""What a run folder holds: its paths, its records, the cards of its models."""

from sentemb.runs.folder import (
    CONFIG,
    MODEL,
    MODULES,
    SELECTED,
    TRAINED_FOLDERS,
    RunFolder,
    discard,
    model_folder,
    read_selected,
    refuse_foreign,
)
from sentemb.runs.model_card import is_stock, write_card
from sentemb.runs.records import Record, Run, Series, as_dict, as_list, duration, number, plain, read_run, safe, show

__all__ = [
    "CONFIG",
    "MODEL",
    "MODULES",
    "SELECTED",
    "TRAINED_FOLDERS",
    "Record",
    "Run",
    "RunFolder",
    "Series",
    "as_dict",
    "as_list",
    "discard",
    "duration",
    "is_stock",
    "model_folder",
    "number",
    "plain",
    "read_run",
    "read_selected",
    "refuse_foreign",
    "safe",
    "show",
    "write_card",
]
