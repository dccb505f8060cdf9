"""Text that can become a corpus: what readers give and preparation takes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass


class Title(str):
    """A sentence that is the title of the sentences after it in its document, up to the next one."""

    __slots__ = ()


Skip = Callable[[str], None]  # receives a sentence about what a reader leaves out
Reader = Callable[[Skip], Iterator[str | None]]  # sentences in order, None after each document


@dataclass(frozen=True)
class TextSource:
    """Text that can become a corpus."""

    name: str  # as Corpus.name
    key: str  # hex digest of the content and of how it is read
    parts: Callable[[], Sequence[Reader]]  # what can be read independently of each other, in order; they are pickled
    size: int = 0  # bytes of it all, 0 if that is not known
    labelled: bool = False  # whether its documents are the rows of a labelled data set
    classes: bool = False  # whether the last sentence of each document is a class
    language: str = ""  # whose rules split it into sentences; "": it holds sentences
    one_book: bool = False  # whether it is a single book, so that one document is expected
    notes: tuple[str, ...] = ()  # how it is read, where that is not what its name says
