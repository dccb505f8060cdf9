"""Run an adaptation, from the first check of the text to the page."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from sentence_transformers import SentenceTransformer

from sentemb.adaptation.arm_training import Trainer
from sentemb.adaptation.arms import Arm, Situation, TrainedArm, offered
from sentemb.adaptation.budget import EVALUATION_SHARE, Budget, evaluations_of
from sentemb.adaptation.candidates import Candidate, eligible, frontier_of
from sentemb.adaptation.folder import AdaptationFolder
from sentemb.adaptation.held_out import (
    LEAST_PAIRS,
    LEAST_QUERIES,
    HeldOutTests,
    Order,
    Ranges,
    agreement_with,
    general_part,
    halves_of,
    order_of,
    pairs_in,
    search_measures,
    sentences_of,
    text_measures,
    texts_of,
)
from sentemb.adaptation.interpolation import SCORED_WEIGHTS
from sentemb.adaptation.journal import as_entry, as_scores
from sentemb.adaptation.measures import GAIN, Embedder, Measure, PairRetrieval, Similarity
from sentemb.adaptation.outcome import Judge, Judged, verdict_of
from sentemb.adaptation.results import write_results
from sentemb.adaptation.search import Search, print_progress
from sentemb.adaptation.settings import AGREEMENT_LOSS, STSB_LOSS, AdaptationSettings, seconds_of
from sentemb.corpus import Corpus
from sentemb.encoders import has_dropout, prompts_of, tokenizer_of, towers_of
from sentemb.runs import duration
from sentemb.search import SearchTask
from sentemb.training import tune_memory, use_threads
from sentemb.validation import held_out_pairs, nearest_examples, sphere_points
from sentemb.wording import counted

ORDER_PAIRS = 200  # that tell whether the text is in order
WARM, TIMED = 32, 256  # texts that are encoded before the speed is measured, and for it
FINAL_SECONDS = 60.0  # that the final scores may take, at least
TOO_SMALL = (
    "This text is too small to tell whether a method helps: the halves of its held-out part have {:,} and {:,} {}, and "
    "each needs {}. Your model is kept; give more text."
)
TOO_SHORT = "the budget is too short for another method; give a longer one"
NO_ORDER = (
    "The order of this text is absent: a sentence is no nearer to the next one (mean cosine {:.3f}) than to any other "
    "({:.3f}). Only what needs no order was tried."
)


@dataclass
class Adaptation:
    """One adaptation; see :func:`sentemb.adapt`."""

    folder: AdaptationFolder
    start: SentenceTransformer
    corpus: Corpus
    task: SearchTask | None
    scored_pairs: Similarity | None
    settings: AdaptationSettings
    begun: Mapping[str, Any]  # what adapt.json says

    def run(self, arms: Mapping[str, Arm]) -> None:
        """Try the arms, choose, judge, and write the model and the page."""
        began = time.monotonic()
        halves = halves_of(self.corpus)
        counts = [len(self.task.queries) // 2] * 2 if self.task else [pairs_in(half) for half in halves]
        what, least = ("judged queries", LEAST_QUERIES) if self.task else ("neighbouring pairs", LEAST_PAIRS)
        if min(counts) < least:
            verdict = TOO_SMALL.format(*counts, what, least)
            write_results(self.folder, self.start, self._about(verdict, began), None)
            return
        print_progress(
            f"{self.corpus.name}: {counted(len(self.corpus), 'sentence')}. Held-out {what}: {counts[0]:,} to choose a "
            f"method by, {counts[1]:,} to judge it by"
        )
        tune_memory()
        use_threads(self.settings.threads)
        prompts = prompts_of(self.start)
        for prompt in {prompts.anchor, prompts.positive}:  # (before the clock starts)
            self.corpus.tokens(tokenizer_of(self.start), self._max_length(), prompt)
        embedder = Embedder.of(self.start)
        general = self.scored_pairs or agreement_with(embedder)
        budget = Budget(seconds_of(self.settings.budget), self.folder.journal.spent)
        order = self._order(embedder, halves[0])
        print_progress(
            f"the text is {'in order' if order.present else 'not in order'}: the mean cosine of a sentence is "
            f"{order.neighbours:.3f} to the next one, and {order.others:.3f} to others"
        )
        arms, refused = offered(arms, self._situation(order))
        search = self._search(embedder, general, halves[0], order, arms, budget)
        ends = datetime.now() + timedelta(seconds=budget.left)
        print_progress(f"general quality: {general.name}; {search.allowed:g} points may be lost")
        print_progress(
            f"trying {', '.join(arms)} until about {ends:%H:%M}; "
            f"scoring a model takes about {duration(search.seconds_per_score)}"
        )
        search.run(arms)
        spent = budget.spent
        judged = self._judge(search, general, halves[1], order)
        method = arms[judged.candidate.arm].about if judged else ""
        verdict = verdict_of(judged, search.candidates, general.name, search.allowed, method)
        about = self._about(verdict, began) | {
            "order": asdict(order),
            "notes": [] if order.present else [NO_ORDER.format(order.neighbours, order.others)],
            "arms": {name: arm.about for name, arm in arms.items() if name not in search.untried},
            "refused": refused | dict.fromkeys(search.untried, TOO_SHORT),
            "general": general.name,
            "allowed": search.allowed,
            "spent": spent,
            "candidates": _rows(search, judged),
            "frontier": frontier_of(search.candidates, general.name),
            "final": _final_rows(judged),
            **self._examples(embedder, judged, halves[1], order),
        }
        about["seconds"] = time.monotonic() - began
        write_results(self.folder, self.start, about, judged if judged and judged.helps else None)

    def _max_length(self) -> int:
        limit = towers_of(self.start)[0].max_seq_length
        return min(self.settings.max_length, limit) if limit else self.settings.max_length

    def _situation(self, order: Order) -> Situation:
        return Situation(
            ordered=order.present,
            dropout=has_dropout(self.start),
            towers=len(towers_of(self.start)),
            titles=len(self.corpus.titles) > 0,
            seconds=seconds_of(self.settings.budget),
        )

    def _order(self, embedder: Embedder, half: Ranges) -> Order:
        ranges = half if pairs_in(half) >= LEAST_PAIRS else self.corpus.split()[0]
        return order_of(embedder, held_out_pairs(self.corpus, ORDER_PAIRS, ranges=ranges))

    def _search(
        self,
        embedder: Embedder,
        general: Similarity,
        half: Ranges,
        order: Order,
        arms: Mapping[str, Arm],
        budget: Budget,
    ) -> Search:
        """The search, with the start's scores on the half that methods are chosen on."""
        journal, trained = self.folder.journal, sum(isinstance(arm, TrainedArm) for arm in arms.values())
        allowed = STSB_LOSS if self.scored_pairs else AGREEMENT_LOSS
        if self.settings.max_general_loss is not None:
            allowed = self.settings.max_general_loss
        entry = journal.read("start")
        if entry is None:
            speed = _speed(embedder, texts_of(self._measures(half, 0, order, 0.5)))
            seconds = EVALUATION_SHARE * budget.total / evaluations_of(trained, 1, SCORED_WEIGHTS)
            share = min(1.0, seconds * speed / sentences_of(1, self.task is not None))
            tests = HeldOutTests(self._measures(half, 0, order, share), general_part(general, share))
            began = time.monotonic()
            scores = tests.score(embedder)  # (it has met some of the sentences before)
            lasted = max(time.monotonic() - began, sentences_of(share, self.task is not None) / speed)
            entry = {"speed": speed, "share": share, "seconds": lasted, "scores": as_entry(scores)}
            journal.write("start", entry | {"spent": budget.spent})
        share = entry["share"]
        return Search(
            Trainer(self.start, self.corpus, self.settings),
            embedder,
            HeldOutTests(self._measures(half, 0, order, share), general_part(general, share)),
            as_scores(entry["scores"]),
            journal,
            budget,
            allowed,
            entry["speed"],
            entry["seconds"],
        )

    def _measures(self, half: Ranges, number: int, order: Order, share: float) -> list[Measure]:
        if self.task is not None:
            return search_measures(self.task, number, share if number == 0 else None)
        return text_measures(self.corpus, half, order.present, share)

    def _judge(self, search: Search, general: Similarity, half: Ranges, order: Order) -> Judged | None:
        seconds = max(FINAL_SECONDS, search.budget.total / 3) / 2
        sentences = sentences_of(1, self.task is not None)
        share = min(1.0, seconds * search.sentences_per_second / sentences)
        lasting = 2 * share * sentences / search.sentences_per_second  # of the start and of the choice
        if eligible(search.candidates, general.name, search.allowed):
            print_progress(f"judging the choice on the other half of the held-out text: about {duration(lasting)}")
        return Judge(HeldOutTests(self._measures(half, 1, order, share), general), self.folder.journal).judge(search)

    def _examples(self, embedder: Embedder, judged: Judged | None, half: Ranges, order: Order) -> dict[str, Any]:
        """Held-out sentences with their neighbours and on a sphere, by the start and by the model that is written."""
        if pairs_in(half) < LEAST_PAIRS:
            return {}
        measures = text_measures(self.corpus, half, order.present, 0.5)
        pairs = next(measure.pairs for measure in measures if isinstance(measure, PairRetrieval))
        sides = {"start": embedder.sides}
        if judged is not None and judged.helps:
            sides["adapted"] = Embedder.of(judged.model).sides
        return {"examples": nearest_examples(sides, pairs), "sphere": sphere_points(sides, pairs)}

    def _about(self, verdict: str, began: float) -> dict[str, Any]:
        """What the results say of any adaptation."""
        return {
            "verdict": verdict,
            "adapted": False,
            "begun": dict(self.begun),
            "corpus": {
                "name": self.corpus.name,
                "sentences": len(self.corpus),
                "documents": len(self.corpus.documents) - 1,
            },
            "task": None if self.task is None else self.task.name,
            "budget": seconds_of(self.settings.budget),
            "spent": 0.0,
            "seconds": time.monotonic() - began,
            "notes": [],
            "candidates": [],
            "frontier": [],
            "final": [],
        }


def _speed(embedder: Embedder, texts: list[str]) -> float:
    """Sentences that the model encodes a second."""
    distinct = list(dict.fromkeys(texts))
    warm, timed = distinct[:WARM], distinct[WARM : WARM + TIMED] or distinct[:WARM]
    embedder.encode(warm)
    began = time.monotonic()
    embedder.encode(timed)
    return len(timed) / max(1e-3, time.monotonic() - began)


def _rows(search: Search, judged: Judged | None) -> list[dict[str, Any]]:
    """A row a candidate."""
    general = search.tests.general.name
    chosen = judged.candidate.name if judged is not None and judged.helps else None

    def row(each: Candidate) -> dict[str, Any]:
        gain, quality = each.differences[GAIN], each.differences[general]
        status = "chosen" if each.name == chosen else "tried"
        if each.arm in search.dropped:
            status = f"given up after part {search.dropped[each.arm]}"
        return {
            "arm": each.arm,
            "setting": each.setting,
            "updates": each.updates,
            "seconds": round(each.seconds, 1),
            **{"gain": gain.value, "gain_low": gain.low, "gain_high": gain.high},
            **{"general": quality.value, "general_low": quality.low, "general_high": quality.high},
            "status": status,
        }

    return [row(each) for each in search.candidates]


def _final_rows(judged: Judged | None) -> list[dict[str, Any]]:
    """A row a measure: before, after, difference."""
    if judged is None:
        return []
    return [
        {
            "measure": name,
            "before": judged.start[name],
            "after": judged.scores[name],
            "difference": each.value,
            "low": each.low,
            "high": each.high,
        }
        for name, each in judged.differences.items()
    ]
