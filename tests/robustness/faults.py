"""What can go wrong, done on purpose and counted: kills, damaged checkpoints, broken input, long runs.

    python -m tests.robustness.faults                             # all of it, about an hour and a half on two cores
    python -m tests.robustness.faults --only resume,kills         # parts: resume, kills, corruptions, fuzz, soak
    python -m tests.robustness.faults --only kills --kills 10    # fewer; also --corruptions, --fuzz, --steps

Trained by the recipe itself, in processes that are killed by SIGKILL. Prints a line as each part ends, then a table;
exit code 1 if a count is not what it must be. Nothing else should run next to ``soak``, whose step time is measured.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as arrays

from sentemb.errors import InputError
from sentemb.storage import digest
from tests.robustness.fuzz import fuzz

SPAWN = multiprocessing.get_context("forkserver")  # forks of one process that has imported torch
VARIES = {"seconds", "pairs_per_second", "peak_memory_mib"}  # of the log, from run to run


def write_corpus(path: Path, documents: int = 12, sentences: int = 12) -> Path:
    """Made-up documents with distinct sentences, one a line."""
    who, what = ("cat", "dog", "king", "queen", "ship", "poet"), ("sees", "finds", "likes", "leaves", "paints", "calls")
    texts = [
        "\n".join(
            f"the {who[(i + j) % 6]} {what[(i * j) % 6]} the {who[j % 6]} number {i} of {j}." for j in range(sentences)
        )
        for i in range(documents)
    ]
    path.write_text("\n\n".join(texts) + "\n", encoding="utf-8")
    return path


# ---- processes that train, and are killed


def recipe(arguments: Sequence[str], folder: str, rank: int, world: int, port: int, stop: int | None) -> None:
    """Train by the recipe's command line, as process ``rank`` of ``world``; killed after step ``stop``."""
    os.environ |= {"SENTEMB_CACHE": f"{folder}/cache", "ACCELERATE_USE_CPU": "true", "HF_HUB_OFFLINE": "1"}
    os.environ.pop("SENTEMB_DATA", None)
    if world > 1:
        os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(world)}
        os.environ |= {"LOCAL_WORLD_SIZE": str(world), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    printed = os.open(f"{folder}/printed-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(printed, 1), os.dup2(printed, 2)
    from recipes import train_bookcorpus
    from sentemb.training import loop

    if stop is not None:
        before = loop.backward

        def backward(*arguments: Any) -> Any:
            if arguments[3] == stop + 1:  # the step: all of the one before is done, and saved where it is to be
                os.kill(os.getpid(), signal.SIGKILL)
            return before(*arguments)

        loop.backward = backward
    train_bookcorpus.main([*arguments, "--threads", "1"])  # (threads of so small a model wait for each other)


def start(arguments: Sequence[str], folder: Path, world: int = 1, stop: int | None = None) -> list[Any]:
    """Processes that run :func:`recipe`."""
    SPAWN.set_forkserver_preload(["recipes.runner.evaluation", "sentemb.pipeline.experiment"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    made = [
        SPAWN.Process(target=recipe, args=(list(arguments), str(folder), rank, world, port, stop), daemon=False)
        for rank in range(world)
    ]
    for process in made:
        process.start()
    return made


def finish(processes: Sequence[Any], folder: Path, killed: bool = False) -> None:
    """Wait for processes; RuntimeError, with what they printed, if they end otherwise than they should."""
    for process in processes:
        process.join(600)
    wanted = -signal.SIGKILL if killed else 0
    if any(process.exitcode != wanted for process in processes):
        printed = "\n".join(path.read_text(errors="replace")[-2000:] for path in sorted(folder.glob("printed-*")))
        raise RuntimeError(f"exit codes {[process.exitcode for process in processes]}: {printed}")


def steady(run: Path) -> list[dict[str, Any]]:
    """The log without what differs from run to run: losses, geometry, a digest of each batch's ids."""
    lines = (run / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in VARIES} for line in lines]


def weights(folder: Path) -> dict[str, str]:
    """Digest of each weight file of a model."""
    return {p.relative_to(folder).as_posix(): digest(p) for p in sorted(folder.rglob("*.safetensors"))}


# ---- exact resume

KINDS = {
    "rnn": "rnn:hidden=8,layers=2,dropout=0.3,embeddings=random,dim=8,vocabulary=300",
    "static": "static:embeddings=random,dim=8,vocabulary=300,dropout=0.3",
    "transformer": "transformer:dropout=0.1",
}
BATCH, STEPS = 16, 18  # pairs of the global batch; 132 pairs, 8 updates an epoch


def resume(kinds: Sequence[str] = tuple(KINDS), worlds: Sequence[int] = (1, 2), stops: Sequence[int] = (6, 8, 12),
           specs: dict[str, str] | None = None) -> tuple[int, int, str]:  # fmt: skip
    """STEPS steps straight, and k steps + SIGKILL + ``--resume`` + the rest: are log and weights the same?"""
    right = count = 0
    for kind, world in ((kind, world) for kind in kinds for world in worlds):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            corpus = write_corpus(folder / "text.txt")
            arguments = [
                "--corpus",
                str(corpus),
                "--encoder",
                (specs or KINDS)[kind],
                "--batch-size",
                str(BATCH // world),
            ]
            arguments += ["--max-steps", str(STEPS), "--save-every", "4", "--log-every", "1", "--eval-every", "5"]
            arguments += ["--warmup", "2", "--no-score", "--precision", "no"]
            straight = folder / "straight"
            finish(start([*arguments, "--out", str(straight)], folder, world), folder)
            for stop in stops:
                out = folder / f"stopped-{stop}"
                finish(start([*arguments, "--out", str(out)], folder, world, stop), folder, killed=True)
                finish(start(["--resume", "--out", str(out)], folder, world), folder)
                same = steady(out) == steady(straight) and weights(out / "model") == weights(straight / "model")
                right, count = right + same, count + 1
                print(f"resume: {kind}, {world} processes, killed after step {stop}: {'same' if same else 'DIFFERS'}")
    return right, count, f"log (batch ids, losses) and weights equal to {STEPS} steps straight"


# ---- kills at random moments


def kills(count: int = 100, most: float = 2.0, seed: int = 0) -> tuple[int, int, str]:
    """SIGKILL at random moments of a run that saves at each step: is each checkpoint complete, does the run go on?"""
    draw, right, inside, newest = random.Random(seed), 0, 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = [
            "--corpus",
            str(write_corpus(folder / "text.txt")),
            "--encoder",
            KINDS["rnn"],
            "--batch-size",
            "16",
        ]
        arguments += ["--warmup", "2", "--no-score", "--precision", "no", "--max-steps", "100000", "--lr", "1e-3"]
        arguments += ["--save-every", "1", "--eval-every", "1", "--log-every", "1", "--keep", "3"]
        out = folder / "run"
        for number in range(count):
            more = [*arguments, "--out", str(out)] if not number else ["--resume", "--out", str(out)]
            (process,) = start(more, folder)
            began = newest
            while newest <= began and process.is_alive():  # it has gone on by a step at least
                time.sleep(0.02)
                newest = max(newest, newest_step(out))
            went_on = process.is_alive()
            time.sleep(draw.uniform(0, most))
            process.kill()
            process.join()
            inside += any(path.name.startswith(".") for place in (out, out / "checkpoints") for path in place.iterdir())
            complete, step = loads_complete(out), newest_step(out)
            right += complete and went_on and step >= newest
            newest = max(newest, step)
            if not (complete and went_on):
                print(f"kills: number {number + 1} at step {step}: {(folder / 'printed-0').read_text()[-1500:]}")
        (process,) = start(["--resume", "--out", str(out)], folder)  # ends by SIGTERM, saved
        while process.is_alive() and newest_step(out) <= newest:
            time.sleep(0.05)
        process.terminate()
        process.join()
        last = newest_step(out)
        straight = folder / "straight"
        finish(start([*arguments, "--out", str(straight), "--eval-every", "0", "--save-every", "0"], folder, stop=last),
               folder, killed=True)  # fmt: skip
        losses = [{r["step"]: (r["loss"], r["batch"]) for r in steady(run)} for run in (out, straight)]
        same = all(losses[0][step] == losses[1][step] for step in range(last + 1))
    equal = "each equal" if same else "NOT EQUAL"
    text = f"{inside} of them inside a save; {last} steps in all, {equal} to an undisturbed run's"
    return (right if same else 0), count, text


def newest_step(out: Path) -> int:
    """The step of a run's newest checkpoint; 0 where there is none."""
    from sentemb.runs import RunFolder

    return max((int(path.name[5:]) for path in RunFolder(out).all_checkpoints()), default=0)


def loads_complete(out: Path) -> bool:
    """Whether a run has a checkpoint, and all its checkpoints, best and last agree with their manifests and load."""
    from sentemb.encoders import load
    from sentemb.runs import RunFolder
    from sentemb.storage import verify

    checkpoints = RunFolder(out).all_checkpoints()
    complete = bool(checkpoints)
    for path in [*checkpoints, *(out / kind for kind in ("best", "last") if (out / kind).exists())]:
        try:
            verify(path)
            load(path).encode("hello")
        except InputError as error:
            complete = False
            print(f"kills: {error}")
    return complete


# ---- damaged checkpoints


def _truncate(path: Path, draw: random.Random) -> None:
    os.truncate(path, draw.randrange(path.stat().st_size))


def _flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def _remove(path: Path, draw: random.Random) -> None:
    path.unlink()


def _zero(path: Path, draw: random.Random) -> None:
    size = path.stat().st_size
    at = draw.randrange(size)
    content = path.read_bytes()
    path.write_bytes(content[:at] + bytes(min(512, size - at)) + content[at + 512 :])
    if path.read_bytes() == content:  # there were zeros
        path.write_bytes(content + b"\0")


def _append(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes() + draw.randbytes(draw.randint(1, 100)))


def _swap(path: Path, draw: random.Random) -> None:
    """With another file of the checkpoint."""
    others = [p for p in _members(path.parents[0]) if p != path and p.read_bytes() != path.read_bytes()]
    if not others:
        return _remove(path, draw)
    other = draw.choice(others)
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)


def _older(path: Path, draw: random.Random) -> None:
    """The same file of the checkpoint before."""
    folder = next(place for place in path.parents if place.name.startswith("step-"))
    before = next(p for p in folder.parent.iterdir() if p.name.startswith("step-") and p != folder)
    content = (before / path.relative_to(folder)).read_bytes()
    if content == path.read_bytes():
        return _flip(path, draw)
    path.write_bytes(content)


def _reshape(path: Path, draw: random.Random) -> None:
    """A weight gets another shape, in a safetensors file that is well formed."""
    if path.suffix != ".safetensors":
        return _flip(path, draw)
    tensors = arrays.load_file(path)
    name = draw.choice(sorted(tensors))
    tensors[name] = np.zeros((3, *tensors[name].shape), tensors[name].dtype)
    arrays.save_file(tensors, path)


DAMAGES: dict[str, Callable[[Path, random.Random], None]] = {
    "truncated": _truncate,
    "bit flipped": _flip,
    "missing": _remove,
    "zeroed": _zero,
    "longer": _append,
    "swapped": _swap,
    "of another checkpoint": _older,
    "wrong shape": _reshape,
}


def _members(folder: Path) -> list[Path]:
    """The files of a checkpoint; not the README, which is for people."""
    return [p for p in sorted(folder.rglob("*")) if p.is_file() and p.name != "README.md" and p.stat().st_size]


def corruptions(count: int = 200, kinds: Sequence[str] = ("rnn", "static", "transformer"),
                specs: dict[str, str] | None = None, seed: int = 0) -> tuple[int, int, str]:  # fmt: skip
    """Damage a file of the newest checkpoint: is it refused by name, set aside, and the one before used?"""
    from sentemb.encoders import load
    from sentemb.training.checkpoints import newest_valid_checkpoint, set_aside_damaged

    draw, right = random.Random(seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "text.txt")
        for kind in kinds:
            arguments = ["--corpus", str(corpus), "--encoder", (specs or KINDS)[kind], "--batch-size", "16"]
            arguments += ["--no-score", "--precision", "no", "--max-steps", "4", "--save-every", "2", "--warmup", "0"]
            finish(start([*arguments, "--out", str(folder / kind)], folder), folder)
        for number in range(count):
            damage, kind = list(DAMAGES)[number % len(DAMAGES)], draw.choice(list(kinds))
            run = folder / "damaged"
            shutil.copytree(folder / kind / "checkpoints", run / "checkpoints")
            newest = run / "checkpoints" / "step-4"
            path = draw.choice(_members(newest))
            before = {p: p.read_bytes() for p in _members(newest)}
            DAMAGES[damage](path, draw)
            changed = {p for p in before if not p.exists() or p.read_bytes() != before[p]}
            named = aside = False
            try:
                load(newest).encode("hello")
            except InputError as error:
                named = any(str(p) in str(error) for p in changed)
            point = newest_valid_checkpoint(run)
            warnings = set_aside_damaged(point)
            aside = point.checkpoint == run / "checkpoints" / "step-2" and any(str(p) in warnings[0] for p in changed)
            right += named and aside
            if not (named and aside):
                print(f"corruptions: {damage} {kind} {path.relative_to(run)}: named {named}, set aside {aside}")
            shutil.rmtree(run)
    return right, count, f"refused with the file named, set aside, the one before used: {', '.join(DAMAGES)}"


# ---- a long run


def soak(steps: int = 20_000) -> tuple[int, int, str]:
    """Many short epochs of a tiny model: does memory grow, do steps slow down?"""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        corpus = write_corpus(folder / "text.txt")
        arguments = ["--corpus", str(corpus), "--encoder", KINDS["rnn"], "--batch-size", "16", "--no-score"]
        arguments += [
            "--max-steps",
            str(steps),
            "--eval-every",
            str(max(1, steps // 10)),
            "--save-every",
            str(steps // 10),
        ]
        arguments += ["--log-every", "10", "--precision", "no", "--lr", "1e-4", "--out", str(folder / "run")]
        process = SPAWN.Process(target=_watched, args=(arguments, str(folder), steps))
        process.start()
        process.join()
        measured = np.loadtxt(folder / "measured")  # step, MiB, seconds, CPU seconds
    half = measured[len(measured) // 10 :]  # (the first tenth fills caches)
    slope = float(np.polyfit(half[:, 0] / 1000, half[:, 1], 1)[0])
    quarter = len(half) // 4
    wall, cpu = (float(np.median(half[-quarter:, c]) / np.median(half[:quarter, c]) - 1) for c in (2, 3))
    text = (
        f"{int(measured[-1, 0])} steps: memory {slope:+.3f} MiB per 1,000 steps (at {half[-1, 1]:.0f}), step time "
        f"{100 * wall:+.1f} % from the first to the last quarter ({100 * cpu:+.1f} % of CPU time)"
    )
    return int(slope < 1) + int(wall < 0.05), 2, text


def _watched(arguments: Sequence[str], folder: str, steps: int) -> None:
    """As :func:`recipe`, memory and time noted a hundred times."""
    import psutil

    from sentemb.training import loop

    process, before, each = psutil.Process(), loop.backward, max(1, steps // 200)
    times = [(time.perf_counter(), time.process_time())]

    def backward(*inputs: Any) -> Any:
        times.append((time.perf_counter(), time.process_time()))
        if inputs[3] % each == 0:
            wall, cpu = np.median(np.diff(np.array(times), axis=0), axis=0)
            with Path(folder, "measured").open("a") as noted:
                noted.write(f"{inputs[3]} {process.memory_info().rss / 2**20} {wall} {cpu}\n")
            times.clear()
        return before(*inputs)

    loop.backward = backward
    recipe(arguments, folder, 0, 1, 0, None)


PARTS: dict[str, Callable[..., tuple[int, int, str]]] = {
    "resume": resume,
    "kills": kills,
    "corruptions": corruptions,
    "fuzz": fuzz,
    "soak": soak,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, with commas between")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--corruptions", type=int, default=200)
    parser.add_argument("--fuzz", type=int, default=10_000, help="cases of each kind of input")
    parser.add_argument("--steps", type=int, default=20_000, help="of the long run")
    options = parser.parse_args(arguments)
    counts = {"kills": options.kills, "corruptions": options.corruptions, "fuzz": options.fuzz, "soak": options.steps}
    table = []
    for name in options.only.split(","):
        began = time.perf_counter()
        right, count, text = PARTS[name](*([counts[name]] if name in counts else []))
        table.append(f"{name:<12} {right:>6} of {count:<6} {text} ({time.perf_counter() - began:.0f} s)")
        print(table[-1], flush=True)
        options.failed = getattr(options, "failed", False) or right != count
    print("\n" + "\n".join(table))
    if options.failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
