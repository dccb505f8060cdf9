"""What is trained on and what is searched: the sections of installed packages' documentation, parted by document.

The same packages give the same files: names are sorted, and what is taken is decided by digests of names.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import Distribution, PackageNotFoundError, distributions
from pathlib import Path, PurePath

from tqdm import tqdm

from eval.package_docs.sections import DocSection, docstring_sections, markup_sections
from sentemb.errors import InputError
from sentemb.storage import write_folder

HELD_OUT = 0.2  # share of the documents that are searched
MOST_OF_PACKAGE = 1000  # sections
LEAST_QUERIES = 10  # of each split
OPENING = 12  # words by which two texts are seen to be copies
LARGEST = 2_000_000  # bytes of a file that is read
PAGES = (".md", ".rst")
LEFT_OUT = {
    "test",
    "tests",
    "testing",
    "_vendor",
    "vendor",
    "_vendored_packages",
    "third_party",
    "externals",
    "licenses",
}
LEFT_OUT_NAMES = ("license", "licence", "copying", "notice", "authors", "test_")
TRAIN, SEARCH, PACKAGES = "train.jsonl", "search", "packages.json"
Document = tuple[str, list[DocSection]]  # its name, and its sections in order


@dataclass(frozen=True)
class Collection:
    """Documents by package, those that are trained on and those that are searched."""

    train: dict[str, list[Document]]
    search: dict[str, list[Document]]
    versions: dict[str, str] = field(default_factory=dict)  # of packages

    def count(self, package: str) -> tuple[int, int]:
        """Sections of a package, trained on and searched."""
        train, search = (sum(len(each) for _, each in part.get(package, [])) for part in (self.train, self.search))
        return train, search


def collect(
    packages: Iterable[str] | None = None, held_out: float = HELD_OUT, most: int = MOST_OF_PACKAGE
) -> Collection:
    """The sections of installed packages.

    A title or the opening of a text that was there before is left out, so that each query has one passage and no text
    is on both sides.

    Args:
        packages: names; None: all that are installed, except this one.
        held_out: share of the documents that are searched, in (0, 1). most: sections of a package.

    Raises:
        InputError: a package is not installed, or there are too few sections.
    """
    collection = Collection({}, {})
    titles, openings = set[str](), set[str]()
    for distribution in tqdm(_installed(packages), "reading", unit=" packages", disable=None):
        name = distribution.name.lower()
        room = most
        for document, sections in documents_of(distribution):
            fresh: list[DocSection] = []
            for section in sections:
                title, opening = (" ".join(text.lower().split()[:OPENING]) for text in (section.title, section.text))
                if title not in titles and opening not in openings and len(fresh) < room:
                    titles.add(title)
                    openings.add(opening)
                    fresh.append(section)
            if fresh:
                side = collection.search if share_of(f"{name}/{document}") < held_out else collection.train
                side.setdefault(name, []).append((f"{name}/{document}", fresh))
                collection.versions[name] = distribution.version
                room -= len(fresh)
            if not room:
                break
    searched = sum(collection.count(name)[1] for name in collection.versions)
    if searched < 2 * LEAST_QUERIES or not collection.train:
        raise InputError(
            f"the documentation of these packages gives {searched} sections to search, and at least "
            f"{2 * LEAST_QUERIES} are needed, with others to train on; name more packages, or install some"
        )
    return collection


def _installed(packages: Iterable[str] | None) -> list[Distribution]:
    if packages is None:
        named = {each.name.lower(): each for each in distributions() if each.name}
        return [named[name] for name in sorted(named) if name != "sentemb"]
    installed = []
    for name in sorted(set(packages)):
        try:
            installed.append(Distribution.from_name(name))
        except PackageNotFoundError:
            raise InputError(f"there is no installed package {name!r}; pip list shows the installed ones") from None
    return installed


def documents_of(distribution: Distribution) -> Iterator[Document]:
    """A package's description and files with sections, in an order that does not hang on their names' alphabet."""
    description = (distribution.read_text("METADATA") or "").partition("\n\n")[2]  # (what is after the head)
    if sections := [*markup_sections(description)]:
        yield "README", sections
    files = [path for path in distribution.files or () if _is_read(path)]
    for path in sorted(files, key=lambda path: (share_of(path.as_posix()), path.as_posix())):
        try:
            file = Path(str(path.locate()))
            if file.stat().st_size > LARGEST:
                continue
            text = file.read_text(encoding="utf-8", errors="replace")
        except OSError:  # listed, and not there
            continue
        read = docstring_sections if path.suffix == ".py" else markup_sections
        if sections := [*read(text)]:
            yield path.as_posix(), sections


def _is_read(path: PurePath) -> bool:
    if path.suffix not in (".py", *PAGES) or path.parts[0] == "..":
        return False
    return LEFT_OUT.isdisjoint(path.parts) and not path.name.lower().startswith(LEFT_OUT_NAMES)


def share_of(name: str) -> float:
    """A number in [0, 1) that follows from a name."""
    return int.from_bytes(hashlib.sha256(name.encode("utf-8", errors="replace")).digest()[:6]) / 2**48


def write_collection(collection: Collection, folder: Path) -> None:
    """Write ``train.jsonl``, ``search/`` in BEIR's layout with the splits dev and test, and ``packages.json``.

    Raises:
        InputError: the folder is there already, or cannot be written.
    """
    if folder.exists():
        raise InputError(f"{folder} is there already, and is not overwritten; name another folder, or remove it")
    try:
        write_folder(folder, lambda path: _write(collection, path))
    except OSError as error:
        raise InputError(f"{folder} cannot be written ({error.strerror}); name another folder") from None


def _write(collection: Collection, folder: Path) -> None:
    train = [
        {"document": document, "title": section.title, "text": section.text}
        for documents in collection.train.values()
        for document, sections in documents
        for section in sections
    ]
    _write_lines(folder / TRAIN, train)
    searched = [
        (f"{document}#{number}", section)
        for documents in collection.search.values()
        for document, sections in documents
        for number, section in enumerate(sections)
    ]
    search = folder / SEARCH
    (search / "qrels").mkdir(parents=True)
    _write_lines(search / "corpus.jsonl", [{"_id": name, "title": "", "text": each.text} for name, each in searched])
    _write_lines(search / "queries.jsonl", [{"_id": f"q:{name}", "text": each.title} for name, each in searched])
    for split in ("dev", "test"):
        judged = [name for name, _ in searched if (share_of(f"split {name}") < 0.5) == (split == "dev")]
        rows = ["query-id\tcorpus-id\tscore", *(f"q:{name}\t{name}\t1" for name in judged)]
        (search / "qrels" / f"{split}.tsv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    counts = {name: dict(zip(("train", "search"), collection.count(name), strict=True)) for name in collection.versions}
    content = {name: {"version": version} | counts[name] for name, version in collection.versions.items()}
    (folder / PACKAGES).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_lines(path: Path, rows: Iterable[dict[str, str]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
