"""Broken input, made by hypothesis: specs, corpus files, SentEval files. Each case must end well or in one sentence."""

import contextlib
import io
import json
import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sentemb.errors import InputError


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    """TimeoutError if the block takes longer."""

    def late(number: int, frame: object) -> None:
        raise TimeoutError(f"more than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _fuzzed(name: str, strategy: Any, check: Callable[[Any], None], count: int) -> int:
    """Cases of ``strategy`` for which ``check`` ends well or in an InputError; the first others are printed."""
    from hypothesis import HealthCheck, Phase, Verbosity, given, seed, settings

    seen, right, failures = 0, 0, 0

    def run(case: Any) -> None:
        nonlocal seen, right, failures
        seen += 1
        try:
            with _within(5), contextlib.redirect_stderr(io.StringIO()):
                check(case)
            right += 1
        except InputError:
            right += 1
        except BaseException as error:
            failures += 1
            if failures <= 5:
                print(f"fuzz: {name}: {type(error).__name__}: {' '.join(str(error).split())[:300]}; case {case!r:.500}")
            if isinstance(error, KeyboardInterrupt):
                raise

    turn = 0
    while seen < count:  # (hypothesis may end before its number of examples)
        turn, before = turn + 1, seen
        chosen = settings(
            max_examples=count - seen,
            deadline=None,
            database=None,
            verbosity=Verbosity.quiet,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        seed(turn)(chosen(given(strategy)(run)))()
        if seen == before:
            break
    print(f"fuzz: {name}: {right} of {seen}")
    return right if right == seen and seen >= count else 0


def registries() -> tuple[Any, Callable[[Any], None]]:
    """Specs made of the pieces that specs are made of, for every table."""
    from hypothesis import strategies as st

    from eval import PROBES
    from sentemb.corpus import CLEANINGS, CORPORA
    from sentemb.encoders import ENCODERS, HEADS
    from sentemb.objectives import OBJECTIVES
    from sentemb.pairs import PAIRS
    from sentemb.registry import build, check, options_of

    built = {"objective": OBJECTIVES, "clean": CLEANINGS, "pairs": PAIRS, "probe": PROBES}
    extra_arguments: dict[str, dict[str, Any]] = {
        "pairs": {"ranges": np.array([[0, 9], [9, 20]])},
        "probe": {"device": "cpu"},
    }
    looked_at = {"encoder": ENCODERS, "corpus": CORPORA, "head": HEADS}  # to make these takes files, or memory
    tables = built | looked_at
    values = st.one_of(
        st.sampled_from(
            ["0", "1", "-1", "1e9", "1e-9", "nan", "inf", "-inf", "true", "no", "", " ", "0x10", "1_0", "½"]
        ),
        st.integers(-10, 10**6).map(str),
        st.floats().map(str),
        st.text(max_size=8),
        st.sampled_from(['"a,b"', "'a", '"a"b', '""', "none"]),
    )

    def spec(kind: str) -> Any:
        options = {name: sorted(options_of(make)) for name, make in tables[kind].items()}
        registered_specs = st.sampled_from(sorted(options)).flatmap(
            lambda name: st.lists(st.tuples(st.sampled_from([*options[name], "x"]), values), max_size=3).map(
                lambda pairs: f"{name}:{','.join('='.join(pair) for pair in pairs)}"
            )
        )
        signs = [":", ",", "=", " ", "\0", "=1", "é", '"', "'"]
        loose = st.lists(st.sampled_from([*options, *signs]), max_size=8).map("".join)
        return st.tuples(st.just(kind), st.one_of(registered_specs, registered_specs, loose, st.text(max_size=30)))

    def check_spec(case: tuple[str, str]) -> None:
        kind, text = case
        if kind in built:
            build(built[kind], text, kind, **extra_arguments.get(kind, {}))
        else:
            check(tables[kind], text, kind)

    return st.sampled_from(sorted(tables)).flatmap(spec), check_spec


def corpus_files(folder: Path) -> tuple[Any, Callable[[Any], None]]:
    """Files of each kind, whole, cut, with bytes changed, or of noise."""
    import bz2
    import gzip
    import lzma

    import pyarrow
    import pyarrow.parquet
    from hypothesis import strategies as st

    from sentemb.corpus import source_of

    text = "Mr. Smith came in. “Who is there?” he said.\n\nCHAPTER I.\n\nIt was… dark. Naïve, isn’t it?\n"
    rows = [{"text": line, "book": str(n % 2)} for n, line in enumerate(text.split("\n"))]
    sheet = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), sheet)
    made = {
        ".txt": text.encode(),
        ".utf16.txt": text.encode("utf-16"),
        ".latin.txt": text.encode("cp1252"),
        ".txt.gz": gzip.compress(text.encode(), mtime=0),
        ".txt.xz": lzma.compress(text.encode()),
        ".txt.zst": bytes(pyarrow.compress(text.encode(), codec="zstd", asbytes=True)),
        ".txt.bz2": bz2.compress(text.encode()),
        ".parquet": sheet.getvalue(),
    }
    listed = [{"text": "text", "book": "book"}, *rows]
    lines = {
        ".jsonl": "".join(json.dumps(row) + "\n" for row in rows).encode(),
        ".csv": "".join(f'"{row["text"]}",{row["book"]}\n' for row in listed).encode(),
        ".tsv": "".join(f"{row['text']}\t{row['book']}\n" for row in listed).encode(),
    }
    number = iter(range(10**9))

    def broken(content: bytes) -> Any:
        at = st.integers(0, len(content))
        return st.one_of(
            st.just(content),
            at.map(lambda n: content[:n]),
            st.tuples(at, st.binary(min_size=1, max_size=20)).map(lambda c: content[: c[0]] + c[1] + content[c[0] :]),
            st.tuples(at, st.binary(min_size=1, max_size=8)).map(
                lambda c: content[: c[0]] + c[1] + content[c[0] + len(c[1]) :]
            ),
            st.tuples(at, at).map(lambda c: content[: c[0]] + content[c[1] :]),
            st.binary(max_size=200),
        )

    def kind(kinds: dict[str, bytes]) -> Any:
        return st.sampled_from(sorted(kinds)).flatmap(lambda suffix: st.tuples(st.just(suffix), broken(kinds[suffix])))

    def check_corpus(case: tuple[str, bytes]) -> None:
        suffix, content = case
        place = folder / f"corpus-{next(number)}"
        place.mkdir()
        try:
            (place / f"file{suffix}").write_bytes(content)
            for spec in (str(place / f"file{suffix}"), *([str(place)] if ".txt" in suffix else [])):
                with contextlib.suppress(InputError):
                    for read in source_of(spec, False).parts():
                        for sentence in read(lambda message: None):
                            assert sentence is None or (sentence and "\n" not in sentence and "\0" not in sentence)
        finally:
            shutil.rmtree(place)

    # (a data set of `datasets` takes a tenth of a second to open)
    return st.integers(0, 19).flatmap(lambda n: kind(lines) if n == 0 else kind(made)), check_corpus


def senteval_files(folder: Path) -> tuple[Any, Callable[[Any], None]]:
    """SentEval's files with a few rows each, lines and bytes of them changed."""
    from hypothesis import strategies as st

    from eval import TASKS, read

    tasks = {name: task for name, task in TASKS.items() if not task.sample}
    line = {
        "line": "a fine film , really .",
        "label_line": "{} a fine film",
        "fine_label_line": "{}:sub what is a film ?",
        "tab_label": "a fine film\t{}",
        "label_tab_pair": "{}\t1\t2\ta film\tthe film",
        "sick": "1\ta film\tthe film\t3.5\t{}",
        "stsb": "a\tb\tc\td\t3.5\ta film\tthe film",
        "sts": "a film\tthe film",
    }
    noise = st.one_of(
        st.text(max_size=30), st.sampled_from(["", "\t", "\t\t\t\t\t\t", "nan", "inf", "1e400", "\0", "\r", "\x85"])
    )
    number = iter(range(10**9))

    def cases_of(name: str) -> Any:
        task = tasks[name]
        label = task.classes[0] if task.classes else "NEUTRAL"
        valid_row = line[task.form].format(label)
        cut = st.integers(0, 40).map(lambda n: valid_row[:n])
        rows = st.lists(st.one_of(st.just(valid_row), noise, cut), max_size=4)
        scores = st.lists(st.one_of(st.sampled_from(["3.5", "", "0", "5"]), noise), max_size=4)
        return st.tuples(
            st.just(name), rows, scores, st.binary(max_size=3), st.sampled_from(["utf-8", "latin-1", "utf-16"])
        )

    def check_senteval(case: tuple[str, list[str], list[str], bytes, str]) -> None:
        name, rows, scores, tail, encoding = case
        place = folder / f"senteval-{next(number)}"
        task = replace(
            tasks[name], files=tuple(replace(file, rows=len(rows) - tasks[name].header) for file in tasks[name].files)
        )
        try:
            for file in task.files:
                path = place / file.path
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes("\n".join(rows).encode(encoding, "replace") + tail)
                if task.form == "sts":
                    path.with_name(path.name.replace("STS.input.", "STS.gs.")).write_text("\n".join(scores), "utf-8")
            dataset = read(task, place)
            assert all(np.isfinite(part.gold).all() for part in dataset.parts.values())
        finally:
            shutil.rmtree(place, ignore_errors=True)

    return st.sampled_from(sorted(tasks)).flatmap(cases_of), check_senteval


def fuzz(count: int = 10_000) -> tuple[int, int, str]:
    """Cases that hypothesis makes, for registry strings, corpus readers and SentEval readers."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as name:
        right = _fuzzed("registry strings", *registries(), count)
        right += _fuzzed("corpus readers", *corpus_files(Path(name)), count)
        right += _fuzzed("SentEval readers", *senteval_files(Path(name)), count)
    return right, 3 * count, "cases end well or in one sentence, within 5 s"
