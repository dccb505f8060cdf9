"""Adapting a model from Python: ``sentemb.adapt``."""

import copy
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from sentemb.adaptation.adapted_run import AdaptedRun
from sentemb.adaptation.arms import chosen_arms
from sentemb.adaptation.driver import Adaptation
from sentemb.adaptation.folder import AdaptationFolder, claimed_folder, refuse_used_folder
from sentemb.adaptation.journal import store_pairs, stored_pairs
from sentemb.adaptation.measures import Similarity
from sentemb.adaptation.settings import AdaptationSettings
from sentemb.corpus import open_corpus
from sentemb.encoders import load
from sentemb.errors import InputError
from sentemb.registry import choose
from sentemb.search import SearchTask, read_search_task
from sentemb.validation import fingerprint


def adapt(
    model: str | Path | SentenceTransformer,
    corpus: Any,
    search: str | Path | SearchTask | None = None,
    budget: str = "30m",
    general: Similarity | None = None,
    out: str | Path | None = None,
    resume: bool = False,
    **settings: Any,
) -> AdaptedRun:
    """Try methods that may improve a finished model on a text, and return the best one, or the model itself.

        run = sentemb.adapt("minilm", "books/", budget="30m")
        print(run.verdict)
        run.model.encode(["A sentence."])

    Methods are chosen on one half of the held-out documents and judged on the other. Preparing the text and the final
    scores are not in the budget. An interrupt or a kill loses at most some minutes: ``resume=True`` continues.

    Args:
        model: a folder, a run, a hub name, ``minilm``, or a SentenceTransformer, which stays as it is.
        corpus: the text, as :func:`sentemb.train` takes it; without labels.
        search: judged queries to be better at: a folder in BEIR's layout, a table of pairs, or a task; None: neighbours
            find each other, and a sentence finds its passage.
        budget: time to try methods in: ``90s``, ``30m``, ``2h``.
        general: pairs with human scores, whose correlation is the general quality; None: those of the adaptation that
            is resumed, else how alike the start finds pairs of the built-in sample.
        out: the folder, new; None: a temporary one, which ``folder`` of the result names.
        resume: continue the adaptation in ``out``, if there is one.
        **settings: ``max_general_loss``, ``arms``, ``language``, ``max_length``, ``batch_size``, ``lr``, ``seed``,
            ``threads`` (:class:`sentemb.adaptation.AdaptationSettings`).

    Returns:
        The outcome: ``model``, ``table``, ``frontier``, ``verdict``, ``report``.

    Raises:
        InputError: something that was given cannot be used; one sentence says what.
    """
    chosen = _settings(budget, settings)
    arms = chosen_arms(chosen.arms)
    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise InputError("an adaptation runs in one process; start it with python, without a launcher")
    if resume and out is None:
        raise InputError("resume=True resumes the adaptation in a folder; give it as out=")
    if out is not None:
        refuse_used_folder(Path(out), resume)
    task = read_search_task(Path(search)) if isinstance(search, str | Path) else search
    text = open_corpus(corpus, language=chosen.language)
    if text.labelled:
        raise InputError(f"{text.name} is labelled data; give text, or train on it with recipes/train_supervised.py")
    start = load(model) if isinstance(model, str | Path) else copy.deepcopy(model)
    start.eval()
    before = AdaptationFolder(Path(out or ""))  # what is resumed, if anything is
    general_name = None if general is None else general.name
    if resume and general is None:
        general = stored_pairs(before.journal.folder)
        general_name = before.read_begun().get("general") if general or before.done else None
    begun = {
        **asdict(chosen),
        "model": str(model) if isinstance(model, str | Path) else "<a SentenceTransformer>",
        "model_fingerprint": fingerprint(start),
        "corpus": str(corpus) if isinstance(corpus, str | Path) else f"<{text.name}>",
        "corpus_fingerprint": text.fingerprint,
        "search": None if search is None else task.name if task and isinstance(search, SearchTask) else str(search),
        "general": general_name,
    }
    with claimed_folder(None if out is None else Path(out), resume) as folder:
        folder.begin(begun, resume)
        if not folder.done:
            if general is not None:
                store_pairs(folder.journal.folder, general)
            Adaptation(folder, start, text, task, general, chosen, begun).run(arms)
    return AdaptedRun(folder.path)


def _settings(budget: str, settings: dict[str, Any]) -> AdaptationSettings:
    names = [each.name for each in fields(AdaptationSettings) if each.name != "budget"]
    for name in settings:
        choose("setting of adapt", name, names)
    return AdaptationSettings(budget=budget, **settings)
