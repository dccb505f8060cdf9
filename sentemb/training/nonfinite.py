"""The policy for a loss or gradient that is not finite: NaN, infinity, and overflows of fp16."""

import json
import math
from pathlib import Path

from accelerate import Accelerator

from sentemb.pairs import Pairs
from sentemb.runs import RunFolder
from sentemb.storage import write_text
from sentemb.training.data import Batch
from sentemb.training.failures import advice_on_divergence
from sentemb.training.settings import TrainingSettings
from sentemb.training.state import TrainState
from sentemb.training.step import Update

MAX_REJECTED = 20  # updates, one after another, that --on-nan skip leaves out before the run stops


class NonFiniteGuard:
    """Accepts an update, or leaves it out; all processes decide alike, as loss and gradient are those of all of them.

    - Loss and gradient norm are finite: accepted.
    - fp16, a finite loss, a gradient that is not: an overflow of the scaled gradient. The update is left out and the
      loss scaler halves its scale. This happens to healthy runs, so it is an error only after 2 ``MAX_REJECTED`` of
      them, one after another.
    - Else the update's pairs are written to ``nonfinite-step-N.json``; the run stops, or with ``on_nan`` "skip" leaves
      the update out. After ``MAX_REJECTED`` of them, one after another, it stops.

    Args:
        run: the run folder.
        settings: ``on_nan``, and what the advice is about.
        state: counts rejected updates.
        pairs: of the corpus, to name their sentences.
        accelerator: the processes and the loss scaler.
    """

    def __init__(
        self, run: Path, settings: TrainingSettings, state: TrainState, pairs: Pairs, accelerator: Accelerator
    ) -> None:
        self.run, self.settings, self.state = run, settings, state
        self.pairs, self.accelerator = pairs, accelerator

    def accepts(self, update: Update, batch: Batch) -> bool:
        """Whether the optimiser may take this update's step. Its loss and ``gradient_norm`` have been read.

        Where the device has left a step out by itself (:func:`sentemb.training.optimizers.step_unless`), this says so.

        Raises:
            FloatingPointError: the run must stop; step, pairs and what to try are named.
        """
        state, scaler = self.state, self.accelerator.scaler
        if math.isfinite(update.loss) and math.isfinite(update.gradient_norm):
            state.rejected_updates = 0
            return True
        state.rejected_updates += 1
        if scaler is not None:  # in place of a step: it has seen the gradient, and halves its scale for an infinite one
            scaler.update()
        if scaler is not None and math.isfinite(update.loss):
            update.overflow = True
            self._stop_after(2 * MAX_REJECTED, update, f"no finite gradient in {state.rejected_updates} updates")
            return False
        reason = f"the loss is {update.loss:.4g} and the gradient norm {update.gradient_norm:.4g}"
        reason += self._write_batch(update, batch)
        update.rejection = f"step {update.step}: {reason}; the update is skipped"
        before = state.rejected_updates - 1
        many = f", as of the {before} updates before" if before else ""
        self._stop_after(1 if self.settings.on_nan == "stop" else MAX_REJECTED, update, reason + many)
        return False

    def _stop_after(self, limit: int, update: Update, reason: str) -> None:
        if self.state.rejected_updates >= limit:
            raise FloatingPointError(f"step {update.step}: {reason}; {advice_on_divergence(self.run, self.settings)}")

    def _write_batch(self, update: Update, batch: Batch) -> str:
        """Write down which pairs the update saw; returns a clause that says where."""
        assert batch.pair_indices is not None
        path, indices = RunFolder(self.run).nonfinite(update.step), batch.pair_indices.tolist()
        if self.accelerator.is_main_process:
            content = {
                "step": update.step,
                "loss": str(update.loss),
                "gradient_norm": str(update.gradient_norm),
                "pairs": indices,
                "sentences": self.pairs.columns(batch.pair_indices).tolist(),  # rows of the corpus
            }
            write_text(path, json.dumps(content) + "\n")
        shown = ", ".join(map(str, indices[:5])) + (", ..." if len(indices) > 5 else "")
        return f" (pairs {shown}: {len(indices)} in {path})"
