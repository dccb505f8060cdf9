"""The output of a run while it trains: ``log.jsonl`` and its records, the progress bar, trackers, warnings."""

from sentemb.training.log.monitor import TrainingMonitor
from sentemb.training.log.record import BatchGeometry, StepRecord
from sentemb.training.log.run_log import RunLog, rewind

__all__ = ["BatchGeometry", "RunLog", "StepRecord", "TrainingMonitor", "rewind"]
