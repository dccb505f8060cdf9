"""The search for the best method: maps, successive halving of what trains, weights in between."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from sentence_transformers import SentenceTransformer

from sentemb.adaptation.arm_training import Interrupted, Trainer
from sentemb.adaptation.arms import Arm, MappedArm, TrainedArm
from sentemb.adaptation.budget import Budget, affordable_arms, least_budget, rungs_of
from sentemb.adaptation.candidates import Candidate
from sentemb.adaptation.held_out import HeldOutTests, Scores
from sentemb.adaptation.interpolation import SCORED_WEIGHTS, WEIGHTS, interpolated, refined_weight
from sentemb.adaptation.journal import Journal, as_entry, as_scores
from sentemb.adaptation.measures import Embedder
from sentemb.adaptation.whitening import LinearMap, linear_maps, with_map
from sentemb.corpus import Corpus
from sentemb.pairs import contiguous, draw
from sentemb.runs import duration

MAPPED_SENTENCES, MAPPED_SHARE = 4000, 0.04  # that maps are made of: at most, and of the budget
TIMING_SHARE = 0.03  # of the budget, that timing an arm may take
SAVING = 3.0  # seconds that a checkpoint may take


@dataclass
class Search:
    """All that the search works with, and what it has tried."""

    trainer: Trainer
    embedder: Embedder  # the start's
    tests: HeldOutTests  # of the half that methods are chosen on
    start_scores: Scores
    journal: Journal
    budget: Budget
    allowed: float  # points of general quality
    sentences_per_second: float
    seconds_per_score: float
    candidates: list[Candidate] = field(default_factory=list)  # in the order tried; of an arm as trained the last one
    dropped: dict[str, int] = field(default_factory=dict)  # by arm: after which rung
    untried: list[str] = field(default_factory=list)  # arms that the budget is too short for

    @property
    def start(self) -> SentenceTransformer:
        """The model that is adapted."""
        return self.trainer.start

    def run(self, arms: Mapping[str, Arm]) -> None:
        """Try these arms."""
        affordable = self._affordable({name: arm for name, arm in arms.items() if isinstance(arm, TrainedArm)})
        for name in (name for name, arm in arms.items() if isinstance(arm, MappedArm)):
            self._try_maps(name)
        finalists = self._halve(affordable)
        for name in finalists:
            self._interpolate(name)

    def model(self, candidate: Candidate) -> SentenceTransformer:
        """A candidate's model, made again."""
        kind, _, value = candidate.setting.partition(" ")
        if kind not in ("", "weight"):
            return with_map(self.start, self._maps[candidate.setting])
        tuned = self.trainer.trained_before(self._folder(candidate.arm))
        return interpolated(self.start, tuned, float(value)) if kind else tuned

    def _folder(self, arm: str) -> Path:
        return self.journal.folder / arm

    @cached_property
    def _maps(self) -> dict[str, LinearMap]:
        """The maps that a sample of the training sentences suggests, by name."""
        corpus, dimension = self.trainer.corpus, self.embedder.encode(["a"]).shape[1]
        entry = self.journal.read("maps")
        if entry is None:
            affordable = int(self.sentences_per_second * self.budget.total * MAPPED_SHARE)
            entry = {"sentences": min(MAPPED_SENTENCES, max(2 * dimension, affordable))}
            self.journal.write("maps", entry)
        return sampled_maps(corpus, self.embedder, entry["sentences"], self.trainer.settings.seed)

    def _try_maps(self, name: str) -> None:
        listed = self.journal.read(f"{name}-names")
        if listed is None:
            began = time.monotonic()
            listed = {"names": list(self._maps), "seconds": time.monotonic() - began, "spent": self.budget.spent}
            self.journal.write(f"{name}-names", listed)

        def mapped(setting: str) -> Embedder:
            return self.embedder.mapped(self._maps[setting])

        for setting in listed["names"]:
            key, embed = f"{name}-{setting}", partial(mapped, setting)
            if self.journal.read(key) is None and not self.budget.left:
                print_progress(f"{name}, {setting}: no time is left to score it")
                continue
            self.candidates.append(self._scored(key, name, setting, embed, {"seconds": listed["seconds"]}))
        if all(each.arm != name for each in self.candidates):
            self.untried.append(name)

    def _affordable(self, arms: Mapping[str, TrainedArm]) -> dict[str, TrainedArm]:
        """The first of the arms, as many as the budget is long enough for; decided once."""
        entry = self.journal.read("affordable")
        if entry is None:
            many = len(arms)
            begun = any(self.journal.read(f"{name}-rung-0") is not None for name in arms)  # by a version that tried all
            if many and not begun:
                timing = self._timing(*next(iter(arms.items())))
                costs = self.seconds_per_score, SCORED_WEIGHTS, timing["overhead"], timing["rate"]
                many = affordable_arms(many, self.budget.left, *costs)
                needed = least_budget(timing["overhead"], timing["rate"])
                if many == 1 and self.budget.total < needed:
                    print_progress(
                        f"warning: the budget of {duration(self.budget.total)} is too short to tell whether a method "
                        f"helps; this model and machine need {duration(needed)} or more. Interrupt, and give a longer "
                        "--budget"
                    )
            entry = {"arms": list(arms)[:many]}
            self.journal.write("affordable", entry)
        self.untried = [name for name in arms if name not in entry["arms"]]
        for name in self.untried:
            print_progress(f"{name}: the budget is too short to try it")
        return {name: arm for name, arm in arms.items() if name in entry["arms"]}

    def _halve(self, arms: Mapping[str, TrainedArm]) -> list[str]:
        """Train the arms of each rung longer, and drop the worse half; return the arms of the last rung."""
        alive, rungs, latest = list(arms), rungs_of(len(arms)), dict[str, Candidate]()
        for number, many in enumerate(rungs):
            ranked = sorted(alive, key=lambda arm: -self._worth(latest.get(arm)))
            for arm in ranked[many:]:
                self.dropped[arm] = number
            alive = ranked[:many]
            for place, arm in enumerate(alive):
                share = _share(rungs, number, place)
                scores_to_come = sum(rungs[number:]) - place + SCORED_WEIGHTS
                latest[arm] = self._train(arm, arms[arm], number, share, scores_to_come)
        self.candidates += latest.values()
        return alive

    def _worth(self, candidate: Candidate | None) -> float:
        return 0.0 if candidate is None else candidate.worth(self.tests.general.name, self.allowed)

    def _train(self, name: str, arm: TrainedArm, rung: int, share: float, scores_to_come: int) -> Candidate:
        """An arm's part of a rung: ``share`` of what is left of the budget after the scores to come."""
        key = f"{name}-rung-{rung}"
        if self.journal.read(key) is not None:
            return self._scored(key, name, "", self._no_model)
        before = self._latest_rung(name, rung)
        earlier = self.journal.read(before) or {"updates": 0, "seconds": 0.0, "rate": 0.0}
        timing = self._timing(name, arm)
        rate = earlier["rate"] or timing["rate"]
        seconds = max(0.0, self.budget.left - scores_to_come * self.seconds_per_score) * share
        if rung and seconds < timing["overhead"] and self.journal.read(f"plan-{key}") is None:
            print_progress(f"{name}: no time is left to train it for longer")
            return self._scored(before, name, "", self._no_model)
        plan = self.journal.read(f"plan-{key}")
        if plan is None:
            plan = {"updates": earlier["updates"] + max(1, int(rate * (seconds - timing["overhead"])))}
            self.journal.write(f"plan-{key}", plan)
        print_progress(f"{name}: {plan['updates'] - earlier['updates']} updates in about {seconds:.0f} s")
        deadline = time.monotonic() + max(1.0, seconds - SAVING)
        trained = self.trainer.train(arm, self._folder(name), plan["updates"], deadline, rate)
        if trained.stopped:
            raise Interrupted
        about = {"updates": trained.updates, "seconds": earlier["seconds"] + trained.seconds, "rate": trained.rate}
        return self._scored(key, name, "", lambda: Embedder.of(trained.model), about)

    def _latest_rung(self, name: str, rung: int) -> str:
        """The journal's key of the last rung before this one in which the arm was trained; a rung may be left out."""
        keys = [f"{name}-rung-{earlier}" for earlier in reversed(range(rung))]
        return next((key for key in keys if self.journal.read(key) is not None), f"{name}-rung-0")

    def _timing(self, name: str, arm: TrainedArm) -> dict[str, float]:
        """Updates a second and the seconds around them, of an arm: passages are longer than sentences.

        In a short budget those of the first arm stand for all.
        """
        key = f"timing-{name}"
        entry = self.journal.read(key)
        first = self.journal.read("timing-of-first")
        if entry is None and first and first["seconds"] > TIMING_SHARE * self.budget.total:
            return first
        if entry is None:
            began = time.monotonic()
            print_progress(f"{name}: timing a few updates")
            rate, overhead = self.trainer.speed(arm, self.journal.folder / key)
            entry = {"rate": rate, "overhead": overhead, "spent": self.budget.spent}
            self.journal.write(key, entry)
            if first is None:
                self.journal.write("timing-of-first", entry | {"seconds": time.monotonic() - began})
        return entry

    def _interpolate(self, name: str) -> None:
        tuned: list[SentenceTransformer] = []  # (read where a weight is still to be scored)

        def between(weight: float) -> Embedder:
            if not tuned:
                tuned.append(self.trainer.trained_before(self._folder(name)))
            return Embedder.of(interpolated(self.start, tuned[0], weight))

        trained = next(each for each in self.candidates if each.arm == name and not each.setting)

        def loss_at(weight: float) -> float | None:
            key, setting = f"{name}-weight-{weight:g}", f"weight {weight:g}"
            if self.journal.read(key) is None and self.budget.left <= self.seconds_per_score / 2:
                print_progress(f"{name}, {setting}: no time is left to score it")
                return None
            embed = partial(between, weight)
            about = {"updates": trained.updates, "seconds": trained.seconds}
            self.candidates.append(self._scored(key, name, setting, embed, about))
            return self.candidates[-1].loss(self.tests.general.name)

        scored = {weight: loss_at(weight) for weight in WEIGHTS} | {1.0: trained.loss(self.tests.general.name)}
        losses = {weight: loss for weight, loss in scored.items() if loss is not None}
        weight = refined_weight(losses, self.allowed)
        if weight is not None:
            loss_at(weight)

    def _scored(
        self, key: str, arm: str, setting: str, embed: Callable[[], Embedder], about: Mapping[str, float] | None = None
    ) -> Candidate:
        """The candidate with its scores, which the journal has, or gets together with what is about its training."""
        entry = self.journal.read(key)
        if entry is None:
            began, embedder = time.monotonic(), embed()
            scores = self.tests.score(embedder)
            if embedder.model is not None:
                self.seconds_per_score = time.monotonic() - began
            entry = {"updates": 0, "seconds": 0.0, **(about or {})}
            entry |= {"scores": as_entry(scores), "spent": self.budget.spent}
            self.journal.write(key, entry)
        scores = as_scores(entry["scores"])
        candidate = Candidate(arm, setting, scores, self.start_scores, entry["updates"], entry["seconds"])
        general = self.tests.general.name
        change = -candidate.loss(general)
        print_progress(f"{candidate.name}: gain {candidate.gain:+.2f}, {general} {change:+.2f} points")
        return candidate

    @staticmethod
    def _no_model() -> Embedder:
        raise AssertionError("the journal has these scores")


def sampled_maps(corpus: Corpus, embedder: Embedder, sentences: int, seed: int) -> dict[str, LinearMap]:
    """The maps that a sample of the training sentences suggests, by name; ``seed`` draws it."""
    rows = draw(contiguous(corpus.split()[0]).rows, sentences, seed)[:, 0]
    return {each.name: each for each in linear_maps(embedder.encode(corpus.sentences(rows)))}


def _share(rungs: Sequence[int], number: int, place: int) -> float:
    """Of the training to come, what the arm number ``place`` of rung ``number`` gets: each rung has equal time."""
    part = 1 / rungs[number]
    to_come = part * (rungs[number] - place) + len(rungs) - number - 1
    return part / to_come


def print_progress(text: str) -> None:
    """On stderr, at once."""
    print(text, file=sys.stderr, flush=True)
