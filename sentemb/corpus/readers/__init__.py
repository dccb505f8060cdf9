"""How text of every kind becomes sentences, with ``None`` after each document."""

from sentemb.corpus.readers.boundaries import BOUNDARY, cut
from sentemb.corpus.readers.hub import hub_rows, identity_of, load_data
from sentemb.corpus.readers.labelled import labelled_rows
from sentemb.corpus.readers.line_shape import shape_of
from sentemb.corpus.readers.memory import memory_source
from sentemb.corpus.readers.tables import FORMATS, RowLayout, check_columns, complaining, file_rows, stream, table_rows
from sentemb.corpus.readers.text_files import BOOKS, books, grouped, line_parts, packing_of

__all__ = [
    "BOOKS",
    "BOUNDARY",
    "FORMATS",
    "books",
    "RowLayout",
    "check_columns",
    "complaining",
    "cut",
    "file_rows",
    "grouped",
    "hub_rows",
    "identity_of",
    "labelled_rows",
    "line_parts",
    "load_data",
    "memory_source",
    "packing_of",
    "shape_of",
    "stream",
    "table_rows",
]
