"""Data sets of the Hugging Face hub, read by the `datasets` library."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sentemb.corpus.readers.tables import FORMATS, in_short, options_of_format, rows
from sentemb.errors import InputError, PreparationInterrupted
from sentemb.storage import cache_dir, digests, key_of


def hub_rows(data: Any, name: str, *arguments: Any) -> Iterator[str | None]:
    """:func:`sentemb.corpus.readers.tables.rows` for a data set of the hub, whose connection may break."""
    try:
        yield from rows(data, *arguments)
    except InputError:
        raise
    except Exception as error:  # of the network, of files: each library has its own
        raise PreparationInterrupted(
            f"data set {name!r} was not read to its end ({in_short(error)}); run the same command again to continue"
        ) from error


def identity_of(data: Any, name: str, config: str, split: str) -> str:
    """What changes if a data set's content does."""
    if hasattr(data, "_fingerprint"):  # it follows files and split: hashing 5 GB at each start would be slow
        return str(data._fingerprint)
    import datasets

    try:
        builder = datasets.load_dataset_builder(name, config or None)
    except Exception as error:  # of the network
        raise InputError(f"data set {name!r} could not be loaded ({in_short(error)}); check its name") from error
    files = [str(file) for file in (builder.config.data_files or {}).get(split.partition("[")[0], [])]
    local = [Path(file) for file in files if Path(file).is_file()]
    return key_of(builder.hash or name, split, *files, *digests(local))  # (addresses on the hub hold the commit)


def load_data(name: str, progress: bool, config: str = "", split: str = "train", streaming: bool = False) -> Any:
    """A data set of the hub, a local path that ``datasets`` loads, or a file of FORMATS.

    Raises:
        InputError: it cannot be loaded.
    """
    import datasets  # over a second to import, needed only for such corpora

    path = Path(name).expanduser()
    local = path.exists()
    quiet = datasets.are_progress_bars_disabled()
    if local or not progress:
        datasets.disable_progress_bars()
    try:
        cache = str(cache_dir() / "hub") if local else None  # hub data sets stay where all programs share them
        if path.is_file():
            if path.suffix.lower() not in FORMATS:
                raise InputError(f"{path} is none of {', '.join(FORMATS)}; convert it to one of these")
            if config or streaming or split != "train":
                raise InputError(
                    f"{path} is one file, without config or splits, and is not streamed; leave config, split and "
                    "streaming out"
                )
            kind, options = FORMATS[path.suffix.lower()], options_of_format(path)
            return datasets.load_dataset(kind, data_files=str(path), split="train", cache_dir=cache, **options)
        where = str(path) if local else name
        return datasets.load_dataset(where, config or None, split=split, cache_dir=cache, streaming=streaming)
    except InputError:
        raise
    except Exception as error:  # by cause: OSError, ValueError, RuntimeError, errors of the network libraries, ...
        reason = (str(error.__cause__ or error).strip().splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"data set {name!r} could not be loaded ({reason}); check its name, or give a folder of .txt books, a file "
            "with a sentence a line, or `sample` (needs only a package index)"
        ) from error
    finally:
        if not quiet:
            datasets.enable_progress_bars()
