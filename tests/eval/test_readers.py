"""Tasks are read exactly as upstream reads them; whatever differs is told in one sentence that names it."""

from pathlib import Path

import numpy as np
import pytest

from eval import GROUPS, TASKS, choose_tasks, data_folder, named, read
from eval.tasks import Task
from eval.tasks.table import SAMPLE, STSB, File
from sentemb.errors import InputError

LINES = Task(
    "LINES",
    "-",
    "nested",
    "line",
    (File("downstream/T/t.pos", 22, "all", 1), File("downstream/T/t.neg", 21, "all", 0)),
    ("bad", "good"),
    encoding="latin-1",
)
TREC = Task(
    "T", "-", "kfold", "fine_label_line", (File("downstream/t", 2, "train"),), ("DESC", "NUM"), encoding="latin-1"
)
SST = Task("S", "-", "split", "tab_label", (File("downstream/t", 2, "train"),), ("0", "1"))
MRPC = Task("M", "-", "kfold", "label_tab_pair", (File("downstream/t", 2, "train"),), ("0", "1"), header=True)
SICKE = Task("E", "-", "split", "sick", (File("downstream/t", 2, "test"),), ("NO", "YES"), header=True)
SICKR = Task("R", "-", "similarity", "sick", (File("downstream/t", 2, "test"),), header=True, low=1.0)
PAIRS = Task("P", "-", "similarity", "stsb", (File("downstream/t", 2, "test"),))
STS = Task("Y", "-", "similarity", "sts", (File("downstream/STS.input.a.txt", 2, "a"),))


@pytest.fixture
def folder(tmp_path):
    for file, word in zip(LINES.files, ("good", "bad"), strict=True):
        path = tmp_path / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = [f"a {word} caf\xe9 {'very ' * (i % 3)}{i}\n" for i in range(file.rows)]
        path.write_text("".join(lines), encoding="latin-1")
    return tmp_path


def put(folder: Path, content: str | bytes, name: str = "t") -> None:
    path = folder / "downstream" / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def test_rows_are_in_sentevals_order(folder):
    part = read(LINES, folder).parts["all"]
    keys = [(len(s.split()), y) for s, y in zip(part.first, part.gold, strict=True)]
    assert keys == sorted(keys) and len(keys) == 43 and part.gold.sum() == 22
    assert part.first[:2] == ["a bad caf\xe9 0", "a bad caf\xe9 3"]  # file order breaks ties


@pytest.mark.parametrize(
    ("task", "content", "first", "second", "gold"),
    [
        (TREC, "NUM:dist How far is it ?\nDESC:def Why ?\n", ["Why ?", "How far is it ?"], [], [0, 1]),
        (SST, "so good \t1\nbad\t0\n", ["bad", "so good"], [], [0, 1]),
        (
            MRPC,
            "\ufeffh\th\th\th\th\n1\t1\t2\ta b  c\td\n0\t1\t2\tx y z\tq r\n",
            ["a b c", "x y z"],
            ["d", "q r"],
            [1, 0],
        ),
        (SICKE, "h\r\n1\tb c\td\t3.5\tYES\r\n2\ta\td\t1\tNO\r\n", ["a", "b c"], ["d", "d"], [0, 1]),
        (SICKR, "h\n1\tb\td\t3.5\tYES\n2\ta\td\t1\tNO\n", ["a", "b"], ["d", "d"], [1.0, 3.5]),
        (PAIRS, "g\tf\ty\ti\t4.2\tb x\tc\ng\tf\ty\ti\t0\ta\te f\n", ["a", "b x"], ["e f", "c"], [0.0, 4.2]),
    ],
)
def test_every_form_of_line(folder, task, content, first, second, gold):
    put(folder, content)
    (part,) = read(task, folder).parts.values()
    assert (part.first, part.second, part.gold.tolist()) == (first, second, gold)
    assert part.gold.dtype == (np.int64 if task.probed else np.float64)


def test_one_part_is_read_without_the_files_of_the_others(folder):
    files = tuple(File(f"downstream/{part}", 1, part) for part in ("train", "dev"))
    task = Task("S", "-", "split", "tab_label", files, ("0", "1"))
    (folder / "downstream" / "dev").write_text("a b\t1\n")
    part = read(task, folder, "dev").parts["dev"]
    assert list(read(task, folder, "dev").parts) == ["dev"] and (part.first, part.gold.tolist()) == (["a b"], [1])
    with pytest.raises(InputError, match="train is missing"):
        read(task, folder)
    (folder / "downstream" / "train").write_text("c\t0\n")
    both = read(task, folder).parts
    assert list(both) == ["train", "dev"] and (both["dev"].first, both["dev"].gold.tolist()) == (["a b"], [1])


def test_unscored_pairs_are_dropped(folder):
    put(folder, "a\tb\nc\td\tmore\ne f\tg\n", "STS.input.a.txt")
    put(folder, "5\n\n2.5\n", "STS.gs.a.txt")
    part = read(STS, folder).parts["a"]
    assert (part.first, part.second, part.gold.tolist()) == (["a", "e f"], ["b", "g"], [5.0, 2.5])


@pytest.mark.parametrize(
    ("task", "content", "message"),
    [
        (SST, None, "missing; S needs it: 2 lines, a sentence, a tab and a label each, utf-8"),
        (SST, "", "t has 0 sentences where S has 2"),
        (SST, "a\t1\n", "t has 1 sentences where S has 2"),
        (SST, "a\t1\nb\t2\n", "t, line 2: label '2' is none of 0, 1"),
        (SST, "a\t1\nb 0\n", "t, line 2: too few columns"),
        (SST, "a\t1\ncaf\xe9\t0\n".encode("latin-1"), "t, line 2: byte 0xe9 is not UTF-8"),
        (TREC, "NUM:x a\nHUM:x b\n", "t, line 2: label 'HUM' is none of DESC, NUM"),
        (MRPC, "h\n1\t1\t2\ta\n", "t, line 2: too few columns"),
        (SICKR, "h\n1\ta\tb\t0.5\tNO\n2\ta\tb\t2\tNO\n", "t, line 2: score '0.5' is not between 1 and 5"),
        (PAIRS, "g\tf\ty\ti\tnan\ta\tb\n", "t, line 1: score 'nan' is not between"),
        (PAIRS, "g\tf\ty\ti\tfour\ta\tb\n", "t, line 1: score 'four' is not a number"),
    ],
)
def test_wrong_files_are_told_by_line(folder, task, content, message):
    if content is not None:
        put(folder, content)
    with pytest.raises(InputError, match=message) as error:
        read(task, folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("pairs", "gold", "message"),
    [
        ("a\tb\nc\td\n", "5\n", "STS.gs.a.txt has 1 lines where STS.input.a.txt has 2"),
        ("a\tb\nc d\n", "5\n4\n", "STS.input.a.txt, line 2: no tab"),
        ("a\tb\nc\td\n", "5\n9\n", "STS.gs.a.txt, line 2: score '9'"),
        ("a\tb\nc\td\n", "5\n\n", "STS.input.a.txt has 1 sentences where Y has 2"),
        ("a\tb\n", None, "STS.gs.a.txt is missing; Y needs it: 2 scored lines, a score or nothing each"),
    ],
)
def test_wrong_sts_files_are_told(folder, pairs, gold, message):
    put(folder, pairs, "STS.input.a.txt")
    if gold is not None:
        put(folder, gold, "STS.gs.a.txt")
    with pytest.raises(InputError, match=message):
        read(STS, folder)


def test_names_and_groups(tmp_path, folder, monkeypatch):
    monkeypatch.delenv("SENTEMB_DATA", raising=False)
    assert [t.name for t in choose_tasks(None, data_folder(None))] == list(SAMPLE)
    assert [t.name for t in choose_tasks(None, data_folder(folder))] == ["MR", "CR"]
    assert named(["sts", "MR", "STS12"]) == [*GROUPS["sts"], "MR"]
    assert len(GROUPS["all"]) == 18 and set(GROUPS["all"]) == set(TASKS) - set(SAMPLE)
    monkeypatch.setenv("SENTEMB_DATA", str(tmp_path))
    (tmp_path / "senteval" / "downstream").mkdir(parents=True)
    assert data_folder(None) == tmp_path / "senteval"
    with pytest.raises(InputError, match="unknown task 'MRR'.*did you mean 'MR'"):
        choose_tasks("CR,MRR", folder)
    with pytest.raises(InputError, match="no folder downstream/"):
        data_folder(tmp_path / "senteval" / "downstream")
    with pytest.raises(InputError, match="MR, STS-B need SentEval's data"):
        choose_tasks("MR,STS-B,MR-sample", None)


def test_the_real_tasks_are_whole(real_data: Path):
    """Counts as upstream; the sums of labels were counted apart from this code, with cut, sort and uniq."""
    sums = {"MR": 5331, "CR": 2407, "SUBJ": 5000, "MPQA": 3312}
    for name in GROUPS["all"]:
        data = read(TASKS[name], real_data / "senteval")
        assert sum(len(part) for part in data.parts.values()) == sum(file.rows for file in data.task.files)
        assert data.task.name not in sums or data.parts["all"].gold.sum() == sums[name]
        assert all(len(part.second) in (0, len(part)) for part in data.parts.values())
    assert sum(not s for s in read(TASKS["CR"], real_data / "senteval").parts["all"].first) == 4
    stsb = read(TASKS["STS-B"], real_data / "senteval")
    assert [file.rows for file in STSB] == [len(p) for p in stsb.parts.values()] == [5749, 1500, 1379]
    gold = np.concatenate([part.gold for part in stsb.parts.values()])
    assert ((gold > 4).sum(), (gold >= 4).sum()) == (1491, 2008)  # SimCSE's two readings of its positives


def test_the_samples_tasks_have_their_counts():
    """Counted from the wheels: exact duplicates dropped (56 and 10), the 98 ratings of zero left out."""
    try:
        both = [read(TASKS[name], None).parts["all"] for name in SAMPLE]
    except InputError as error:
        if "cannot be fetched" not in str(error):
            raise
        pytest.skip(str(error))
    assert [(len(part), int(part.gold.sum())) for part in both] == [(12_752, 7368), (3600, 2120)]
