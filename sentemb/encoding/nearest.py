"""The sentences of an encoded corpus that are nearest to queries; nothing but the queries is embedded."""

import numpy as np
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from sentemb.encoders import towers_of
from sentemb.encoding.stored import EncodedCorpus
from sentemb.errors import InputError
from sentemb.retrieval import NearestPassages
from sentemb.validation import CachedEncoder


def nearest_rows(
    encoded: EncodedCorpus, model: SentenceTransformer, queries: list[str], k: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The ``k`` nearest distinct sentences of each query, exactly, by what is stored.

    Args:
        encoded: the embeddings. model: the one that made them. queries: texts. k: sentences a query.

    Returns:
        (rows of the encoded corpus int64 ``[q, k]``, scores float32 ``[q, k]``), the nearest first; -1 and -inf where
        there are fewer. The score is the cosine, or the inner product for a model that was trained with it.

    Raises:
        InputError: the model has another number of dimensions.
    """
    search = NearestPassages(query_embeddings(encoded, model, queries), k, str(encoded.meta["score"]))
    first, start, numbers = encoded.ids["first"], 0, []
    for block in encoded.blocks():
        rows = np.arange(start, start + len(block))
        distinct = np.flatnonzero(first[start : start + len(block)] == rows)
        search.add(block[distinct])
        numbers.append(rows[distinct].astype(np.int32))
        start += len(block)
    places, scores = search.result()
    return np.where(places >= 0, np.concatenate(numbers)[places].astype(np.int64), -1), scores


def query_embeddings(encoded: EncodedCorpus, model: SentenceTransformer, queries: list[str]) -> NDArray[np.float32]:
    """Embeddings ``[q, dimension]`` of queries as the model was trained to compare them with the encoded sentences.

    Sentences by tower g are searched with queries by tower f, and those that have the prompt of documents with queries
    that have the prompt of queries; all others with queries that are embedded as the sentences are.
    """
    tower, prompts = encoded.meta["tower"], encoded.meta["prompts"]
    towers = towers_of(model)
    if (tower is None) != (len(towers) == 1):
        raise InputError(f"{encoded.folder} was made by another model, with {'two towers' if tower else 'one tower'}")
    if tower == "g":
        made = CachedEncoder(towers[0])(queries)
    elif tower == "both":
        made = CachedEncoder(model, prompt=prompts[0] if prompts[0] == prompts[1] else None)(queries)
    else:
        of_queries, of_documents = (model.prompts.get(name) for name in ("query", "document"))
        prompt = of_queries if of_queries is not None and prompts[0] == of_documents else prompts[0]
        made = CachedEncoder(towers[0], prompt=prompt)(queries)
    if made.shape[1] < encoded.dimension:
        raise InputError(f"{encoded.folder} has {encoded.dimension} dimensions, and the model {made.shape[1]}")
    made = made[:, : encoded.dimension]
    if encoded.meta["truncate"] and encoded.meta["unit_length"]:
        made = made / np.maximum(np.linalg.norm(made, axis=1, keepdims=True), 1e-12)
    return np.asarray(made, dtype=np.float32)
