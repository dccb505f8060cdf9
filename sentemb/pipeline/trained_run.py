"""The result of a training run: its model, log, scores before and after, folder and page."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentence_transformers import SentenceTransformer

from sentemb.encoders import Texts, truncated
from sentemb.pipeline.compared_encoders import compared_encoders
from sentemb.pipeline.encoding_cost import encoding_cost
from sentemb.report import write_report
from sentemb.runs import PREFIXES, TEACHER, TRAINED, RunFolder, as_dict, prefixes_of, read_run, write_card
from sentemb.storage import write_text
from sentemb.validation import (
    CachedEncoder,
    EmbeddingMemory,
    HeldOutPairs,
    ItemScores,
    TeacherReference,
    compare_encoders,
    held_out_geometry,
    held_out_items,
    nearest_examples,
    sides_of,
    similarity_histograms,
    sphere_points,
)

if TYPE_CHECKING:
    from pandas import DataFrame

SHOWN = ("initial", "trained")  # the encoders whose histograms and neighbours the page has
PREFIX = "prefix"  # the role of the trained encoder whose embeddings are cut
Measure = Callable[[SentenceTransformer, HeldOutPairs], dict[str, Any]]


@dataclass
class TrainedRun:
    """A training run that ended: at its last update, by an interruption, or before this call.

    ``model`` is the trained SentenceTransformer; ``folder`` has everything that the run has written.
    """

    folder: Path
    model: SentenceTransformer
    initial: SentenceTransformer | None  # a copy from before training; None where nothing was trained
    pairs: HeldOutPairs = field(repr=False)
    step: int  # updates done
    steps: int  # updates of the whole run
    trained: str  # how much the model was trained, in words
    interrupted: bool = False  # a signal or KeyboardInterrupt ended it; train(..., resume=True) resumes it
    is_main_process: bool = True  # the others of a launch have no scores and write nothing
    reference: TeacherReference | None = field(default=None, repr=False)  # of its teacher
    texts: Texts | None = field(default=None, repr=False)  # of the training documents
    embeddings: EmbeddingMemory = field(default_factory=EmbeddingMemory, repr=False)  # of the scores during training

    @property
    def complete(self) -> bool:
        """Whether this call has trained up to the last update."""
        return not self.interrupted and self.initial is not None

    @property
    def log(self) -> "DataFrame":
        """The records of log.jsonl, one a row, by ``step`` (:class:`sentemb.training.StepRecord` has the columns)."""
        from pandas import DataFrame

        return DataFrame(read_run(self.folder).records).set_index("step")

    @property
    def scores(self) -> "DataFrame":
        """Geometry and retrieval of held-out pairs: a row before training, one after, one of averaged word embeddings.

        With ``matryoshka`` a row for each prefix, too, ``trained @64``. Measured at the first call, and read from
        scores.json after it.
        """
        from pandas import DataFrame

        file = RunFolder(self.folder).scores
        if not file.is_file():
            self.score()
        content = json.loads(file.read_text(encoding="utf-8"))
        rows = content["rows"] + content.get(PREFIXES, [])
        return DataFrame([{"encoder": row["encoder"], **as_dict(row.get("geometry"))} for row in rows]).set_index(
            "encoder"
        )

    def encoder(self, model: SentenceTransformer) -> CachedEncoder:
        """A model's ``encode`` that reuses what the run's scores have encoded with the same weights."""
        return CachedEncoder(model, cache=self.embeddings.of(model))

    def _geometry(self, model: SentenceTransformer, pairs: HeldOutPairs) -> dict[str, Any]:
        return {"geometry": held_out_geometry(sides_of(model, self.encoder(model)), pairs)}

    def score(self, measure: Measure | None = None) -> dict[str, dict[str, Any]]:
        """Measure the encoder before and after training, the average of its word embeddings and any teacher; compare.

        Of a run with ``matryoshka`` the trained encoder is also measured with its embeddings cut to each prefix, and
        compared with itself in full.
        Writes scores.json, with the interval of each difference (:func:`sentemb.validation.compare_encoders`) and
        held-out sentences with their nearest neighbours and on a sphere, and the results in the model's card. On
        processes other than the main one nothing happens.

        Args:
            measure: the results of a model, ``geometry`` among them, and ``items``, where there are any:
                :class:`sentemb.validation.ItemScores` by test, which are compared and not written. None: geometry and
                retrieval of held-out pairs.

        Returns:
            Results by the name of the encoder: "trained"; the name of the one that training began with ("minilm",
            "random rnn"); that of the averaged embeddings ("averaged minilm embeddings"); "teacher NAME"; and
            "trained @64", cut to 64 dimensions. In a run with a teacher those in full size have ``cost``
            (:func:`sentemb.pipeline.encoding_cost.encoding_cost`).
        """
        if not self.is_main_process:
            return {}
        run = RunFolder(self.folder)
        encoders = compared_encoders(self.model, self.initial, as_dict(run.read_config().get("settings")), self.texts)
        roles = {each.name: each.role for each in encoders}
        results, items, sides = {}, {}, {}
        for name, encoder in ((each.name, each.model) for each in encoders):
            print(f"measuring: {name}", file=sys.stderr)
            results[name] = dict((measure or self._geometry)(encoder, self.pairs))
            sides[name] = sides_of(encoder, self.encoder(encoder))
            items[name] = {**results[name].pop("items", {}), **held_out_items(sides[name], self.pairs)}
            if self.reference is not None:
                results[name] |= self.reference.scores(sides[name].first)
        if TEACHER in roles.values():
            for each in encoders:  # one right after the other, as the machine's load changes
                results[each.name]["cost"] = encoding_cost(each.model.to(self.model.device), self.pairs)
        rows = [_row(name, roles[name], result) for name, result in results.items()]
        shown = {name: side for name, side in sides.items() if roles[name] in SHOWN}
        histograms = {
            name: similarity_histograms(side.first, self.pairs, other=side.second) for name, side in shown.items()
        }
        differences = compare_encoders(dict(sorted(items.items(), key=lambda entry: entry[0] != TRAINED)))
        content = {
            "rows": rows,
            "differences": differences,
            "histograms": histograms,
            "examples": nearest_examples(shown, self.pairs),
            "sphere": sphere_points(shown, self.pairs),
        }
        of_prefixes, prefix_items = self._measured_prefixes(measure or self._geometry)
        if of_prefixes:
            content[PREFIXES] = [_row(name, PREFIX, result) for name, result in of_prefixes.items()]
            for name, cut in prefix_items.items():
                differences += compare_encoders({name: cut, TRAINED: items[TRAINED]})
        write_text(run.scores, json.dumps(content, indent=1) + "\n")
        from_initial = [d for d in differences if d["encoder"] == TRAINED and roles[d["against"]] == "initial"]
        if run.model.is_dir():
            prefixes = list(of_prefixes.values())
            write_card(run.model, run.read_config(), self.trained, results[TRAINED], from_initial, prefixes)
        return results | of_prefixes

    def _measured_prefixes(
        self, measure: Measure
    ) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, ItemScores]]]:
        """Results, and items that are compared, of the trained encoder cut to each length of the run, by name."""
        results, items = {}, {}
        for size in prefixes_of(RunFolder(self.folder).read_config()):
            name = f"{TRAINED} @{size}"
            print(f"measuring: {name}", file=sys.stderr)
            model = truncated(self.model, size)
            sides = sides_of(model, self.encoder(model))
            results[name] = {"dimension": size, **measure(model, self.pairs)}
            items[name] = {**results[name].pop("items", {}), **held_out_items(sides, self.pairs)}
            if self.reference is not None:
                results[name] |= self.reference.scores(sides.first)
        return results, items

    def report(self) -> Path:
        """Write report.html, a page of the whole run, and return its path."""
        path = RunFolder(self.folder).report
        if self.is_main_process:
            if not RunFolder(self.folder).scores.is_file():
                self.score()
            write_report(self.folder)
        return path


def _row(name: str, role: str, result: dict[str, Any]) -> dict[str, Any]:
    """A row of scores.json."""
    retrieved = {key: result["geometry"][key] for key in ("retrieval_mrr", "retrieval_recall_at_1")}
    return {"encoder": name, "role": role, **result, **retrieved}
