"""Downloads end whole and right or not at all, whatever the server does, and say what is left to do by hand."""

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from eval import GROUPS
from eval import download as module
from eval.download import download, main
from eval.tasks import files_of
from eval.tasks.checksums import FILES, DataFile
from sentemb.errors import InputError

GOOD = b"a fine film .\nthe rain went on .\nno newline at the end ?"
NAME = "downstream/MR/rt-polarity.pos"
Answer = Callable[[BaseHTTPRequestHandler, int], None]  # the handler, and how often the path was asked for before


class Server:
    """A local web server: ``answers`` by path, and every request it saw as (path, its Range header)."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.seen: list[tuple[str, str | None]] = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:
                before = sum(path == handler.path for path, _ in self.seen)
                self.seen.append((handler.path, handler.headers.get("Range")))
                self.answers.get(handler.path, status(404))(handler, before)

            def log_message(handler, *arguments) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSES", (0.0, 0.0))
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def send(handler: BaseHTTPRequestHandler, code: int, content: bytes, **headers: str) -> None:
    handler.send_response(code)
    for key, value in ({"Content_Length": str(len(content))} | headers).items():
        if value:
            handler.send_header(key.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(content)


def status(code: int) -> Answer:
    return lambda handler, before: send(handler, code, b"")


def complete(content: bytes) -> Answer:
    return lambda handler, before: send(handler, 200, content)


def ranged(content: bytes) -> Answer:
    def answer(handler: BaseHTTPRequestHandler, before: int) -> None:
        if not (asked := handler.headers.get("Range")):
            return send(handler, 200, content)
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(content):
            return send(handler, 416, b"", Content_Range=f"bytes */{len(content)}")
        send(handler, 206, content[start:], Content_Range=f"bytes {start}-{len(content) - 1}/{len(content)}")

    return answer


def broken_off(content: bytes, after: int) -> Answer:
    """Promises all and closes the connection too early."""
    return lambda handler, before: send(handler, 200, content[:after], Content_Length=str(len(content)))


def first(*answers: Answer) -> Answer:
    """One answer after the other, then the last for ever."""
    return lambda handler, before: answers[min(before, len(answers) - 1)](handler, before)


def row(*urls: str, path: str = NAME, content: bytes = GOOD) -> DataFile:
    lines = content.count(b"\n") + (not content.endswith(b"\n"))
    return DataFile(path, hashlib.sha256(content).hexdigest(), lines, len(content), urls)


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def raises(error: BaseException) -> Callable[..., None]:
    def function(*_: object, **__: object) -> None:
        raise error

    return function


def begin(folder: Path, content: bytes) -> Path:
    """A .partial of an earlier run."""
    partial = folder / f"{NAME}.partial"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(content)
    return partial


@pytest.mark.parametrize(
    ("answer", "ranges"),
    [
        (complete(GOOD), [None]),
        (first(status(500), status(429), complete(GOOD)), [None] * 3),
        (first(broken_off(GOOD, 20), ranged(GOOD)), [None, "bytes=20-"]),
        (first(broken_off(GOOD, 20), complete(GOOD)), [None, "bytes=20-"]),  # a server without Range: begun again
        (first(broken_off(b"X" * len(GOOD), 20), ranged(GOOD)), [None, "bytes=20-", None]),  # the beginning was wrong
        (lambda handler, before: send(handler, 200, GOOD, Content_Length=""), [None]),  # length unknown
    ],
)
def test_a_file_arrives_whole_in_spite_of_passing_faults(server, tmp_path, answer, ranges):
    server.answers["/a"] = answer
    assert download(tmp_path / "new", [row(f"{server.url}/a")]) == []
    assert (tmp_path / "new" / NAME).read_bytes() == GOOD
    assert left(tmp_path / "new") == [NAME]
    assert [asked for _, asked in server.seen] == ranges


@pytest.mark.parametrize(
    ("answer", "requests", "reason"),
    [
        (status(404), 1, "HTTP 404"),
        (status(204), 1, "HTTP 204"),
        (status(500), 3, "HTTP 500"),
        (complete(GOOD.replace(b"fine", b"FINE")), 1, "wrong sha256 .* .3 lines where 3 are expected"),
        (complete(GOOD[:-1]), 1, "offers 55 bytes where 56 are expected"),
        (complete(b"<html>"), 1, "offers 6 bytes where 56 are expected"),
        (lambda handler, before: send(handler, 200, GOOD * 9, Content_Length=""), 1, "sends more than 56 bytes"),
        (lambda handler, before: send(handler, 200, b"", Content_Length="56"), 3, "broke off after 0 of 56 bytes"),
        (lambda handler, before: handler.wfile.write(b"nonsense\r\n\r\n"), 3, "connection lost"),
        (lambda handler, before: None, 3, "connection lost"),
    ],
)
def test_what_is_not_the_file_leaves_nothing_and_is_named(server, tmp_path, answer, requests, reason):
    server.answers["/a"] = answer
    file = row(f"{server.url}/a")
    [message] = download(tmp_path, [file])
    assert left(tmp_path) == [] and len(server.seen) == requests
    assert re.search(f"{server.url}/a: {reason}", message), message
    assert f"put the file with sha256 {file.sha256} (3 lines, 56 bytes) at {tmp_path / NAME}" in message
    assert "\n" not in message


def test_what_a_broken_connection_leaves_is_gone_on_from_in_the_next_run(server, tmp_path):
    server.answers["/a"] = first(*[broken_off(GOOD, 20)] * 3, ranged(GOOD))
    [message] = download(tmp_path, [row(f"{server.url}/a")])
    assert "broke off after 20 of 56 bytes" in message and left(tmp_path) == [f"{NAME}.partial"]
    assert download(tmp_path, [row(f"{server.url}/a")]) == []
    assert server.seen[-1] == ("/a", "bytes=20-") and left(tmp_path) == [NAME]


@pytest.mark.parametrize(
    ("partial_content", "ranges"),
    [
        (GOOD[:30], ["bytes=30-"]),
        (GOOD, []),  # only the last step was missing
        (GOOD + b"more", [None]),
        (b"X" * len(GOOD), [None]),
        (b"X" * 30, ["bytes=30-", None]),
    ],
)
def test_a_partial_of_an_earlier_run_is_used_if_it_can_be(server, tmp_path, partial_content, ranges):
    begin(tmp_path, partial_content)
    server.answers["/a"] = ranged(GOOD)
    assert download(tmp_path, [row(f"{server.url}/a")]) == []
    assert [asked for _, asked in server.seen] == ranges
    assert (tmp_path / NAME).read_bytes() == GOOD and left(tmp_path) == [NAME]


@pytest.mark.parametrize(
    "answer",
    [
        first(status(416), complete(GOOD)),
        first(lambda handler, before: send(handler, 206, GOOD[5:], Content_Range="bytes 5-55/56"), complete(GOOD)),
    ],
)
def test_a_server_that_cannot_go_on_there_is_asked_for_all(server, tmp_path, answer):
    begin(tmp_path, GOOD[:30])
    server.answers["/a"] = answer
    assert download(tmp_path, [row(f"{server.url}/a")]) == []
    assert [asked for _, asked in server.seen] == ["bytes=30-", None]
    assert (tmp_path / NAME).read_bytes() == GOOD


@pytest.mark.parametrize("answer", [status(404), complete(b"X" * len(GOOD)), broken_off(b"X" * len(GOOD), 20)])
def test_the_next_place_is_asked(server, tmp_path, answer):
    server.answers |= {"/a": answer, "/b": ranged(GOOD)}
    assert download(tmp_path, [row(f"{server.url}/a", f"{server.url}/b")]) == []
    assert (tmp_path / NAME).read_bytes() == GOOD and left(tmp_path) == [NAME]


def test_a_right_file_is_not_fetched_again(server, tmp_path, capsys):
    server.answers["/a"] = complete(GOOD)
    for summary in ("1 fetched, 0 already there, 0 not in place", "0 fetched, 1 already there, 0 not in place"):
        assert download(tmp_path, [row(f"{server.url}/a")]) == []
        assert summary in capsys.readouterr().err
    assert len(server.seen) == 1


def test_a_wrong_file_in_place_is_never_overwritten(server, tmp_path):
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_bytes(b"mine")
    server.answers["/a"] = complete(GOOD)
    [message] = download(tmp_path, [row(f"{server.url}/a")])
    for part in (str(tmp_path / NAME), hashlib.sha256(b"mine").hexdigest(), row().sha256, "move it away and run"):
        assert part in message
    assert (tmp_path / NAME).read_bytes() == b"mine" and server.seen == []


def test_a_failing_file_does_not_stop_the_others(server, tmp_path):
    server.answers["/a"] = complete(GOOD)
    blocked = tmp_path / "blocked"
    blocked.write_bytes(b"a file, not a folder")
    (tmp_path / "folder").mkdir()
    paths = ["one", "two", "blocked/three", "folder", "four"]
    files = [row(f"{server.url}/{'gone' if path == 'two' else 'a'}", path=path) for path in paths]
    files.insert(4, row(path="nowhere"))
    messages = download(tmp_path, files)
    reasons = ["two could not be fetched", "three cannot be written", "folder is not a file", "no public copy is known"]
    assert all(reason in sentence for reason, sentence in zip(reasons, messages, strict=True)), messages
    assert left(tmp_path) == ["blocked", "four", "one"]


def test_a_host_that_cannot_be_reached_is_not_waited_for_again(server, tmp_path, monkeypatch):
    calls: list[str] = []
    urlopen = module.urlopen
    monkeypatch.setattr(module, "urlopen", lambda r, timeout: calls.append(r.full_url) or urlopen(r, timeout=timeout))
    server.answers["/b"] = complete(GOOD)
    nobody = "http://127.0.0.1:9"  # the port "discard"
    files = [row(f"{nobody}/a", f"{server.url}/b", path="one"), row(f"{nobody}/c", path="two")]
    [message] = download(tmp_path, files)
    assert f"{nobody}/c: cannot be reached" in message and left(tmp_path) == ["one"]
    assert calls == [f"{nobody}/a"] * 3 + [f"{server.url}/b"]


@pytest.mark.parametrize(("code", "requests"), [(200, 1), (404, 3)])
def test_downloads_at_once_wait_for_each_other_and_all_see_the_outcome(server, tmp_path, code, requests):
    def slowly(handler: BaseHTTPRequestHandler, before: int) -> None:
        time.sleep(0.1)
        send(handler, code if before < 2 else 200, GOOD)

    server.answers["/a"] = slowly
    with ThreadPoolExecutor(3) as pool:
        failed = list(pool.map(lambda _: len(download(tmp_path, [row(f"{server.url}/a")])), range(3)))
    assert sum(failed) == requests - 1 == len(server.seen) - 1
    assert (tmp_path / NAME).read_bytes() == GOOD and left(tmp_path) == [NAME]


@pytest.mark.parametrize("locks", ["no module", "no support"])
def test_without_locks_each_process_has_its_own_partial(server, tmp_path, monkeypatch, locks):
    if locks == "no module":
        monkeypatch.setattr(module, "fcntl", None)
    else:
        monkeypatch.setattr(module.fcntl, "flock", raises(OSError("no locks")))
    server.answers |= {"/a": first(broken_off(GOOD, 20), ranged(GOOD)), "/b": broken_off(GOOD, 20)}
    assert download(tmp_path, [row(f"{server.url}/a")]) == []
    assert len(download(tmp_path, [row(f"{server.url}/b", path="other")])) == 1
    assert (tmp_path / NAME).read_bytes() == GOOD and left(tmp_path) == [NAME]


@pytest.fixture
def table(server, monkeypatch) -> list[DataFile]:
    """MR and CR as a table of one file each, on the server."""
    server.answers |= {"/mr": complete(GOOD), "/cr": complete(b"good\n")}
    files = [row(f"{server.url}/mr"), row(f"{server.url}/cr", path="downstream/CR/custrev.pos", content=b"good\n")]
    monkeypatch.setattr("eval.tasks.checksums.FILES", tuple(files))
    return files


def fails(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return caught.value.code


def test_the_command_brings_the_tasks_asked_for_and_says_the_terms(table, tmp_path, capsys):
    main([str(tmp_path), "--tasks", "CR"])
    assert left(tmp_path) == [table[1].path]
    main([str(tmp_path)])
    assert left(tmp_path) == [file.path for file in reversed(table)]
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.endswith(f"{module.TERMS}\n")


def test_the_command_ends_with_2_and_a_sentence_for_each_missing_file(table, server, tmp_path, capsys):
    del server.answers["/mr"]
    assert fails(tmp_path) == 2
    [error_line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert str(tmp_path / NAME) in error_line and f"{server.url}/mr: HTTP 404" in error_line
    assert left(tmp_path) == [table[1].path]


def test_a_mirror_is_asked_first(table, server, tmp_path):
    server.answers[f"/copy/{NAME}"] = complete(GOOD)
    main([str(tmp_path), "--mirror", f"{server.url}/copy/"])
    assert [path for path, _ in server.seen] == [f"/copy/{NAME}", "/copy/downstream/CR/custrev.pos", "/cr"]


def test_the_list_fetches_nothing(table, server, tmp_path, capsys):
    main([str(tmp_path / "new"), "--list", "--tasks", "MR,CR"])
    printed = capsys.readouterr().out
    assert printed.splitlines()[0].split("\t") == [NAME, "56", table[0].sha256, f"{server.url}/mr"]
    assert len(printed.splitlines()) == 2 and server.seen == [] and not (tmp_path / "new").exists()
    main([str(tmp_path), "--tasks", "MR"])
    capsys.readouterr()
    main([str(tmp_path), "--list", "--mirror", "http://own"])
    assert capsys.readouterr().out.split("\t")[-1] == "http://own/downstream/CR/custrev.pos\n"


def test_an_interrupted_download_ends_with_130_and_keeps_what_it_has(table, server, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(module, "_move", raises(KeyboardInterrupt()))  # after the first block
    assert fails(tmp_path) == 130
    assert capsys.readouterr().err == "interrupted: run the same command again to continue\n"
    assert left(tmp_path) == [f"{NAME}.partial"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["new", "--tasks", "MR,SICKR"], "unknown task 'SICKR' (did you mean 'SICK-R'?); valid: CR, CR-sample, MPQA"),
        (["new", "--tasks", ","], "--tasks names no task; valid: transfer, sts, all, MR"),
        (["taken"], "taken is not a folder"),
        (["taken/below/it"], "taken is not a folder"),
        (["new", "--mirror", "ftp://host"], "--mirror 'ftp://host' is not an address"),
        (["new", "--mirror", "http://host:port"], "is not an address"),
        (["new", "--mirror", "http://[host"], "is not an address"),
        (["new", "--mirror", "http://host/a b"], "is not an address"),
    ],
)
def test_wrong_arguments_are_one_sentence_and_write_nothing(
    table, server, tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file")
    assert fails(*arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert left(tmp_path) == ["taken"] and server.seen == []


def test_a_folder_that_cannot_be_written_to_is_refused_unless_all_is_there(table, tmp_path, monkeypatch, capsys):
    main([str(tmp_path), "--tasks", "MR"])
    monkeypatch.setattr("os.access", lambda *_: False)  # for root, everything can be written to
    main([str(tmp_path), "--tasks", "MR"])
    capsys.readouterr()
    assert fails(tmp_path) == 2
    assert f"error: {tmp_path} cannot be written to" in capsys.readouterr().err


def test_every_task_has_files_and_every_file_a_task_and_a_place():
    assert set(files_of("all")) == set(FILES) and len(files_of("all")) == len(FILES)
    assert all(files_of(task) for task in GROUPS["all"])
    for group in ("transfer", "sts"):
        assert files_of(group) == [file for task in GROUPS[group] for file in files_of(task)]
    assert files_of("SICK-E,SICK-R,SICK-R-supervised") == files_of("SICK-R")
    for file in FILES:
        assert file.urls and len(set(file.urls)) == len(file.urls), file.path
        assert all(re.search("/[0-9a-f]{40}/", url) for url in file.urls), file.urls  # one commit: it cannot change
    assert files_of("mr") == files_of("MR")
    with pytest.raises(InputError, match="unknown task 'mrr'"):
        files_of("mrr")


def test_the_table_is_that_of_the_real_files(real_data):
    folder = real_data / "senteval"
    sums = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert {file.path: file.sha256 for file in FILES} == {path: sha256 for sha256, path in sums}
    for file in FILES:
        content = (folder / file.path).read_bytes()
        assert row(*file.urls, path=file.path, content=content) == file


def test_real_files_arrive_as_they_are(real_data, server, tmp_path):
    files = files_of("CR,STS-B")
    for file in files:
        server.answers[f"/{file.path}"] = ranged((real_data / "senteval" / file.path).read_bytes())
    main([str(tmp_path), "--tasks", "CR,STS-B", "--mirror", server.url])
    assert left(tmp_path) == sorted(file.path for file in files)
    for file in files:
        assert (tmp_path / file.path).read_bytes() == (real_data / "senteval" / file.path).read_bytes()
