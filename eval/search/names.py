"""Names of search tasks: ``search:DIR`` for judged queries, ``passages:CORPUS`` for text without judgements."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from eval.score_checkpoints import config_of
from sentemb.corpus import open_corpus
from sentemb.errors import InputError
from sentemb.languages import DEFAULT
from sentemb.runs import as_dict, least_held_out
from sentemb.search import MOST_QUERIES, SENTENCES, SearchTask, held_out_task, read_search_task

JUDGED, HELD_OUT = "search:", "passages:"  # what a name begins with


def is_search(name: object) -> bool:
    """Whether this is a search task or the name of one."""
    return isinstance(name, SearchTask) or (isinstance(name, str) and name.startswith((JUDGED, HELD_OUT)))


def search_task(name: SearchTask | str, checkpoints: Sequence[str | Path] = ()) -> SearchTask:
    """The task of that name; a task is returned as it is.

    Args:
        name: ``search:PATH``, a folder in BEIR's layout (its split ``test``) or a table of queries and passages; or
            ``passages:CORPUS``, a corpus as the recipes take it, in whose held-out documents a sentence finds its
            passage.
        checkpoints: that will be scored; runs among them say the corpus' language and which documents were held out.

    Raises:
        InputError: another name, or the task cannot be read.
    """
    if isinstance(name, SearchTask):
        return name
    if not is_search(name):
        raise InputError(f"{name!r} is not a search task; write search:DIR (judged queries) or passages:CORPUS")
    kind, _, place = name.partition(":")
    if f"{kind}:" == JUDGED:
        return read_search_task(Path(place))
    return passages_of(place, checkpoints)


def passages_of(
    corpus_spec: str,
    checkpoints: Sequence[str | Path] = (),
    sentences: int = SENTENCES,
    most: int = MOST_QUERIES,
) -> SearchTask:
    """:func:`held_out_task` of a corpus, as the runs among ``checkpoints`` have split it.

    Raises:
        InputError: there is no such corpus; as :func:`held_out_task`.
    """
    configs = [config for checkpoint in checkpoints if (config := config_of(Path(checkpoint)))]
    languages = [str(as_dict(config.get("settings")).get("language", DEFAULT)) for config in configs]
    corpus = open_corpus(corpus_spec, language=(languages or [DEFAULT])[0])
    for config in configs:  # (runs of version 0.1 held out fewer documents)
        if as_dict(config.get("corpus")).get("fingerprint") == corpus.fingerprint:
            corpus = replace(corpus, least_held_out=min(corpus.least_held_out, least_held_out(config)))
    return held_out_task(corpus, sentences, most)
