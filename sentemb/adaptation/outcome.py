"""The outcome of an adaptation: its choice, judged on the half of the held-out text that played no part in it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sentence_transformers import SentenceTransformer

from sentemb.adaptation.budget import FEW_UPDATES
from sentemb.adaptation.candidates import Candidate, Difference, differences_of, eligible
from sentemb.adaptation.held_out import HeldOutTests, Scores
from sentemb.adaptation.journal import Journal, as_entry, as_scores
from sentemb.adaptation.measures import GAIN, Embedder
from sentemb.adaptation.search import Search
from sentemb.wording import counted


@dataclass(frozen=True)
class Judged:
    """The model that was judged, and its scores next to the start's."""

    candidate: Candidate
    model: SentenceTransformer
    start: dict[str, float]  # by measure, in points
    scores: dict[str, float]
    differences: dict[str, Difference]

    @property
    def helps(self) -> bool:
        """Whether the gain is real: its interval is above 0."""
        return self.differences[GAIN].low > 0


@dataclass(frozen=True)
class Judge:
    """Scores models on the held-out texts that no method was chosen on; each score goes to the journal."""

    tests: HeldOutTests
    journal: Journal

    def judge(self, search: Search) -> Judged | None:
        """The best candidate that loses no more than is allowed on all pairs of general quality; None: there is none.

        Its gain is measured once, when it is chosen.
        """
        general, start = self.tests.general.name, search.embedder
        for candidate in eligible(search.candidates, general, search.allowed):
            model = search.model(candidate)
            embedder = Embedder.of(model)
            quality = self._general(f"general-{candidate.name}", embedder)
            before = self._general("general-start", start)
            if -differences_of(quality, before)[general].value > search.allowed:
                continue
            scores = self._scored(f"text-{candidate.name}", embedder, self.tests.score_text) | quality
            start_scores = self._scored("text-start", start, self.tests.score_text) | before
            differences = differences_of(scores, start_scores)
            return Judged(candidate, model, _values(start_scores), _values(scores), differences)
        return None

    def _general(self, key: str, embedder: Embedder) -> Scores:
        return self._scored(key, embedder, self.tests.score_general)

    def _scored(self, key: str, embedder: Embedder, score: Callable[[Embedder], Scores]) -> Scores:
        entry = self.journal.read(f"final-{key}")
        if entry is None:
            entry = {"scores": as_entry(score(embedder))}
            self.journal.write(f"final-{key}", entry)
        return as_scores(entry["scores"])


def _values(scores: Scores) -> dict[str, float]:
    return {name: items.score for name, items in scores.items()}


def verdict_of(
    judged: Judged | None, candidates: Sequence[Candidate], general: str, allowed: float, about: str = ""
) -> str:
    """One plain sentence, or a few; ``about``: what the chosen method does."""
    if not candidates:
        return "No method was tried: keep your model. None fits the text and the model, or the budget is too short."
    most = max(each.updates for each in candidates)
    if 0 < most < FEW_UPDATES and not (judged is not None and judged.helps):
        return (
            "The budget was too short to tell: keep your model. No method was trained for more than "
            f"{counted(most, 'update')}; give a longer --budget."
        )
    if judged is None:
        gaining = [each for each in candidates if each.gain > 0]
        if not gaining:
            return "No method helped: keep your model. None of those tried raised the scores on your text."
        best = max(gaining, key=lambda each: each.gain)
        return (
            f"No method helped at the price: keep your model. The best, {best.name}, gained {best.gain:.2f} points on "
            f"your text and lost {best.loss(general):.2f} points of {general}; {allowed:g} are allowed."
        )
    gain, quality = judged.differences[GAIN], judged.differences[general]
    if not judged.helps:
        return (
            f"No method helped beyond chance: keep your model. The best, {judged.candidate.name}, changed the scores "
            f"on held-out text by {gain.text} points, and that interval is not above 0."
        )
    candidate = judged.candidate
    method = f"{candidate.arm}: {about}; {counted(candidate.updates, 'update')}. " if about else ""
    return (
        f"It paid: {candidate.name} raised the scores on held-out text by {gain.text} points, and {general} "
        f"changed by {quality.text}. {method}Of {counted(len(candidates), 'model')} tried, it gained most among those "
        f"that lose at most {allowed:g} points of {general}, and the interval of its gain is above 0."
    )
