"""What a run is scored by: while it trains, and at its end."""

import json
import sys
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import StaticEmbedding

from eval import Data, choose_tasks, evaluate, format_table, read, stsb_dev
from sentemb.encoders import mean_of_word_embeddings, towers_of
from sentemb.errors import InputError
from sentemb.report import write_report
from sentemb.runs import RunFolder, read_selected, write_card
from sentemb.storage import write_text
from sentemb.validation import CachedEncoder, HeldOutPairs, held_out_geometry, sides_of, similarity_histograms


def read_dev(dev: str, folder: Path | None) -> Data | None:
    """STS-B where the dev score is of it; None where it is of held-out pairs."""
    if dev == "heldout":
        return None
    try:
        (task,) = choose_tasks("STS-B", folder)
        return read(task, folder)
    except InputError:
        if dev == "stsb":
            raise
        return None


def read_tasks(name: str, settings: dict[str, Any], folder: Path | None) -> list[Data]:
    """The tasks of the final score. Data that cannot be had costs the scores, not the run, unless it was asked for."""
    wanted = settings["tasks"]
    default = None if name == "bookcorpus" or folder is None else "STS-B"
    try:
        return [read(task, folder) for task in choose_tasks(wanted or default, folder)]
    except InputError as error:
        if settings["data"] or wanted:
            raise
        print(f"no probes at the end: {error}", file=sys.stderr)
        return []


def dev_scores(model: SentenceTransformer, pairs: HeldOutPairs, stsb: Data | None) -> dict[str, float]:
    """What the log keeps of the held-out pairs and of STS-B dev: geometry, retrieval, Spearman."""
    encode = CachedEncoder(model)
    geometry = held_out_geometry(sides_of(model, encode), pairs)
    scores = {
        "heldout_alignment": geometry["alignment"],
        "heldout_uniformity": geometry["uniformity"],
        "retrieval_mrr": geometry["retrieval_mrr"],
        "retrieval_recall_at_1": geometry["retrieval_recall_at_1"],
    }
    return scores | (stsb_dev(stsb, encode) if stsb else {})


def retrieval_of(model: SentenceTransformer) -> dict[str, str]:
    """How held-out pairs of a model are ranked: ``score``, between which ``sides``."""
    sides = sides_of(model, CachedEncoder(model))
    return {"score": sides.score, "sides": sides.names}


def selected(folder: Path) -> str:
    """Which step a best/ folder is of."""
    return f"{read_selected(folder)['step']} steps (the best by the dev score)"


def finish(
    out: Path,
    untrained: SentenceTransformer,
    model: SentenceTransformer,
    tasks: list[Data],
    pairs: HeldOutPairs,
    trained: str,
) -> None:
    """Score the encoder before and after training and the average of its word embeddings; table, file, page and card.

    ``trained``: how much it was, in words, for the card.
    """
    encoders = {"untrained": untrained, "trained": model}
    if not isinstance(towers_of(model)[0][0], StaticEmbedding):  # untrained it is that average
        encoders["averaged embeddings"] = mean_of_word_embeddings(untrained)
    results = {}
    for name, encoder in encoders.items():
        encoder.to("cpu")
        print(f"measuring: {name}", file=sys.stderr)
        results[name] = evaluate(encoder, tasks, pairs)
    rows = [
        {
            "encoder": name,
            **result,
            "retrieval_mrr": result["geometry"]["retrieval_mrr"],
            "retrieval_recall_at_1": result["geometry"]["retrieval_recall_at_1"],
        }
        for name, result in results.items()
    ]
    histograms = {}
    for name in ("untrained", "trained"):
        sides = sides_of(encoders[name], CachedEncoder(encoders[name]))
        histograms[name] = similarity_histograms(sides.first, pairs, other=sides.second)
    run = RunFolder(out)
    content = json.dumps({"rows": rows, "histograms": histograms}, indent=1)
    write_text(run.scores, content + "\n")
    write_card(run.model, run.read_config(), trained, results["trained"])
    write_report(out)
    print(format_table(results))
    print(f"model: {run.model}   report: {run.report}")
