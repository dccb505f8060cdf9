"""A corpus to a folder of embeddings, at scale: ``sentemb.encode``, and the folder it writes.

:mod:`sentemb.encoding.settings` says what may be asked for, :mod:`sentemb.encoding.corpus_encoder` embeds sentences,
:mod:`sentemb.encoding.writer` writes them a window at a time, :mod:`sentemb.encoding.formats` into files of three
kinds, and :mod:`sentemb.encoding.stored` opens these. Nothing heavy is imported before a name is asked for.
"""

from typing import TYPE_CHECKING

from sentemb.lazy_imports import lazy_exports

if TYPE_CHECKING:
    from sentemb.encoding.nearest import nearest_rows
    from sentemb.encoding.settings import EncodingSettings, refuse_used_out
    from sentemb.encoding.stored import EncodedCorpus
    from sentemb.encoding.writer import encode

__all__ = ["EncodedCorpus", "EncodingSettings", "encode", "nearest_rows", "refuse_used_out"]

__getattr__, __dir__ = lazy_exports(
    __name__,
    {
        "EncodedCorpus": "sentemb.encoding.stored",
        "EncodingSettings": "sentemb.encoding.settings",
        "encode": "sentemb.encoding.writer",
        "nearest_rows": "sentemb.encoding.nearest",
        "refuse_used_out": "sentemb.encoding.settings",
    },
)
