"""Whether an adaptation chose the right method: each method again, all with the same number of updates.

    python -m benchmarks.regret runs/adapt --updates 500 --out runs/regret

Reads a finished adaptation (``sentemb adapt``), and trains its model again on its text by each method that it tried.
Time decides nothing, so that the result does not depend on how busy the machine is. A method that trains nothing has
the setting that gained most in the adaptation. All are scored on the half of the held-out text that chose nothing.

Regret is the gain of the best method less that of the chosen one, as a share of the best gain. It is also printed for
what a method gains within the allowed loss of general quality, if gain and loss shrink alike on the way back to the
start (:meth:`sentemb.adaptation.candidates.Candidate.worth`): the adaptation ranks methods by that. The best of several
measured gains is too high on average, so that regret is, too.

Where no method gained beyond chance, this number of updates is too small for the regret to say anything.

What is done stays in OUT: the same command continues after a kill. The seconds of a method are those since then.
``--data`` is SentEval's folder, for an adaptation that was judged by STS-B dev.
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from eval.tables import Table, as_text
from recipes.adapt import general_quality
from sentemb.adaptation import ARMS, AdaptationSettings, AdaptedRun, MappedArm, Similarity, TrainedArm
from sentemb.adaptation.arm_training import Trainer
from sentemb.adaptation.arms import KEEP
from sentemb.adaptation.candidates import Candidate, differences_of
from sentemb.adaptation.held_out import (
    HeldOutTests,
    Order,
    Scores,
    agreement_with,
    halves_of,
    search_measures,
    text_measures,
)
from sentemb.adaptation.journal import Entry, Journal, as_entry, as_scores
from sentemb.adaptation.measures import GAIN, Embedder
from sentemb.adaptation.search import MAPPED_SENTENCES, sampled_maps
from sentemb.corpus import Corpus, open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError, exit_codes
from sentemb.search import read_search_task
from sentemb.training import processor, tune_memory, use_threads
from sentemb.validation import fingerprint

FOREVER = 1e9  # seconds
BEGUN = "begun"  # of the journal


@dataclass(frozen=True)
class Rerun:
    """The methods of a finished adaptation once more."""

    results: Mapping[str, Any]  # of the adaptation
    settings: AdaptationSettings
    start: SentenceTransformer
    corpus: Corpus
    general: Similarity | None  # pairs with human scores; None: agreement with the start
    journal: Journal

    @classmethod
    def of(cls, folder: Path, out: Path, data: Path | None, **changed: Any) -> "Rerun":
        """Of the adaptation in ``folder``; ``changed``: settings that are not as they were.

        Raises:
            InputError: there is none that is finished, or its model, text or pairs are not what they were.
        """
        results = AdaptedRun(folder).results
        if not results.get("arms"):
            raise InputError(f"{folder} is not a finished adaptation that has tried methods; give the folder of one")
        begun = results["begun"]
        settings = AdaptationSettings(**{each.name: begun[each.name] for each in fields(AdaptationSettings)} | changed)
        start = load(begun["model"], device="cpu").eval()
        corpus = open_corpus(begun["corpus"], language=settings.language)
        for what, name, now in (
            ("model", "model_fingerprint", fingerprint(start)),
            ("text", "corpus_fingerprint", corpus.fingerprint),
        ):
            if begun[name] != now:
                raise InputError(f"the {what} is not the one that {folder} was begun with; put that back")
        general = general_quality(data) if begun["general"] else None
        if begun["general"] != (general and general.name):
            raise InputError(f"{folder} was judged by {begun['general']}; give the folder that has it as --data")
        return cls(results, settings, start, corpus, general, Journal(out))

    @cached_property
    def embedder(self) -> Embedder:
        """The start's."""
        return Embedder.of(self.start)

    @cached_property
    def tests(self) -> HeldOutTests:
        """All of the half that chose nothing."""
        general = self.general or agreement_with(self.embedder)
        if (search := self.results["begun"]["search"]) is not None:
            return HeldOutTests(search_measures(read_search_task(Path(search)), 1), general)
        ordered, half = Order(**self.results["order"]).present, halves_of(self.corpus)[1]
        return HeldOutTests(text_measures(self.corpus, half, ordered), general)

    def begin(self, begun: Entry) -> None:
        """Write what it is begun with.

        Raises:
            InputError: the folder has scores of something else.
        """
        before = self.journal.read(BEGUN)
        if before not in (None, begun):
            raise InputError(f"{self.journal.folder} was begun with {before}, not {begun}; give another --out")
        self.journal.write(BEGUN, begun)

    def start_scores(self) -> Scores:
        """Before any method."""
        return as_scores(self._entry(KEEP, lambda: {"scores": as_entry(self.tests.score(self.embedder))})["scores"])

    def candidate(self, name: str, updates: int) -> Candidate:
        """A method with its scores, trained with this number of updates if it trains at all."""
        arm, setting = ARMS[name], self._best_setting(name)
        assert isinstance(arm, TrainedArm | MappedArm)
        if isinstance(arm, TrainedArm):
            entry = self._entry(name, lambda: self._trained(name, arm, updates))
        else:
            entry = self._entry(name, lambda: self._mapped(setting))
        return Candidate(
            name, setting, as_scores(entry["scores"]), self.start_scores(), entry["updates"], entry["seconds"]
        )

    def _best_setting(self, name: str) -> str:
        """Of a method that trains nothing, what gained most in the adaptation."""
        if isinstance(ARMS[name], TrainedArm):
            return ""
        rows = [row for row in self.results["candidates"] if row["arm"] == name]
        return str(max(rows, key=lambda row: row["gain"])["setting"])

    def _trained(self, name: str, arm: TrainedArm, updates: int) -> Entry:
        trainer, folder = Trainer(self.start, self.corpus, self.settings), self.journal.folder / name
        trained = trainer.train(arm, folder, updates, time.monotonic() + FOREVER)
        if trained.stopped:
            raise KeyboardInterrupt
        scores = as_entry(self.tests.score(Embedder.of(trained.model)))
        return {"updates": trained.updates, "seconds": trained.seconds, "scores": scores}

    def _mapped(self, setting: str) -> Entry:
        began = time.monotonic()
        linear = sampled_maps(self.corpus, self.embedder, MAPPED_SENTENCES, self.settings.seed)[setting]
        scores = as_entry(self.tests.score(self.embedder.mapped(linear)))
        return {"updates": 0, "seconds": time.monotonic() - began, "scores": scores}

    def _entry(self, name: str, make: Callable[[], Entry]) -> Entry:
        entry = self.journal.read(name)
        if entry is None:
            entry = make()
            self.journal.write(name, entry)
        return entry


def regret_of(gains: Mapping[str, float], chosen: str) -> float:
    """The best gain less that of the chosen method, as a share of the best; to keep the start gains 0."""
    best, gain = max(0.0, *gains.values()), {KEEP: 0.0, **gains}[chosen]
    if best == 0:
        return 0.0 if gain == 0 else math.inf
    return (best - gain) / best


def table_of(candidates: Sequence[Candidate], chosen: str, general: str, allowed: float) -> str:
    """A row a method."""
    rows = []
    for each in candidates:
        gain, quality = each.differences[GAIN], each.differences[general]
        name = f"{each.name} (chosen)" if each.arm == chosen else each.name
        numbers = [f"{each.updates:,}", f"{each.seconds:.0f}", gain.text, quality.text]
        rows.append([name, *numbers, f"{each.worth(general, allowed):+.2f}"])
    head = ["method", "updates", "seconds", "gain", general, "gain within the allowed loss"]
    return as_text([Table("differences from the start in points", head, rows)])


def conclusion(candidates: Sequence[Candidate], chosen: str, general: str, allowed: float) -> list[str]:
    """The lines below the table."""
    lines = []
    for what, gains in (
        ("gain", {each.arm: each.gain for each in candidates}),
        (
            f"gain within the allowed loss of {allowed:g}",
            {each.arm: each.worth(general, allowed) for each in candidates},
        ),
    ):
        lines.append(
            f"regret by {what}: {regret_of(gains, chosen):.1%} of the best, {max(gains, key=gains.__getitem__)}"
        )
    by_arm = {each.arm: each for each in candidates}
    best = max(candidates, key=lambda each: each.gain)
    if chosen in by_arm and best.arm != chosen:
        difference = differences_of(best.scores, by_arm[chosen].scores)[GAIN]
        lines.append(f"{best.arm} less {chosen}: {difference.text} points, with its interval")
    if best.differences[GAIN].low <= 0:
        lines.append("no method gained beyond chance, so the regret says nothing; give more --updates")
    return lines


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("run", type=Path, help="the folder of a finished adaptation")
    made.add_argument("--updates", type=int, default=500, help="of each method that trains")
    made.add_argument("--batch-size", type=int, default=None, help="pairs of an update; default the adaptation's")
    made.add_argument("--threads", type=int, default=None)
    made.add_argument("--data", type=Path, default=None, help="SentEval's folder; default $SENTEMB_DATA/senteval")
    made.add_argument("--out", type=Path, required=True, help="where runs and scores are put; what is there is read")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    options = parser().parse_args(arguments)
    with exit_codes("interrupted; the same command continues"):
        changed = {"threads": options.threads}
        changed |= {"batch_size": options.batch_size} if options.batch_size is not None else {}
        rerun = Rerun.of(options.run, options.out, options.data, **changed)
        rerun.begin({"run": str(options.run), "updates": options.updates, "batch_size": rerun.settings.batch_size})
        tune_memory()
        use_threads(options.threads)
        candidates = [rerun.candidate(name, options.updates) for name in rerun.results["arms"]]
        chosen = (rerun.results["chosen"] or KEEP).partition(",")[0]
        about = chosen, rerun.tests.general.name, rerun.results["allowed"]
        print(f"{processor()}; batches of {rerun.settings.batch_size} pairs")
        print(table_of(candidates, *about))
        print("\n".join(conclusion(candidates, *about)))


if __name__ == "__main__":
    main()
