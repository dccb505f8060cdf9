"""The tasks of SentEval as rows of data, read from their files. To add one: a row in ``table``."""

from eval.tasks.checksums import DataFile, files_of
from eval.tasks.readers import Data, Part, read, refuse_missing
from eval.tasks.table import GROUPS, METRICS, TASKS, File, Task, choose_tasks, data_folder, kind_of, named

__all__ = [
    "GROUPS",
    "METRICS",
    "TASKS",
    "Data",
    "DataFile",
    "File",
    "Part",
    "Task",
    "choose_tasks",
    "data_folder",
    "files_of",
    "kind_of",
    "named",
    "read",
    "refuse_missing",
]
