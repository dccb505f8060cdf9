"""Write an encoder in another format: in fewer bytes, or for onnxruntime.

    sentemb export runs/words words-small                     # a static encoder in float16: half the size
    sentemb export runs/words words-small --precision int8    # a quarter, with a scale for each row
    sentemb export runs/first --format onnx                   # any encoder, in runs/first/model/onnx
    sentemb export runs/first first-onnx --format onnx --precision int8

`python -m sentemb.export` is the same command. CHECKPOINT is a run, a model's folder or a hub name. The format
model2vec takes averaged word embeddings (--encoder static); linear layers after them become part of the table. OUT is a
new folder: SentenceTransformer(OUT) and model2vec's StaticModel.from_pretrained(OUT) load it. The format onnx takes
every encoder but two towers, of which it takes each. sentemb.load(CHECKPOINT, backend="onnx") and sentemb.load(OUT)
load it, and onnxruntime computes it. What is lost is measured on random texts of the encoder's vocabulary, and printed.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from sentemb.errors import InputError, exit_codes
from sentemb.program import command_parser

PRECISIONS = {"model2vec": ("float32", "float16", "int8"), "onnx": ("float32", "int8")}
DEFAULT_PRECISION = {"model2vec": "float16", "onnx": "float32"}


def parser() -> argparse.ArgumentParser:
    """The command line's options."""
    made = command_parser(__doc__, "sentemb.export")
    made.add_argument("checkpoint", metavar="CHECKPOINT", help="a run, a model's folder, or a hub name")
    made.add_argument(
        "out",
        metavar="OUT",
        type=Path,
        nargs="?",
        help="a new folder, or an empty one; nothing is overwritten. Left out, the format onnx is written into the "
        "checkpoint's own folder, as onnx/",
    )
    made.add_argument("--format", choices=tuple(PRECISIONS), default="model2vec", help="default model2vec")
    made.add_argument(
        "--precision",
        choices=PRECISIONS["model2vec"],
        help="of the numbers: default float16 for model2vec, whose embeddings sentemb computes in float32; of onnx "
        "float32 (default) or int8, by onnxruntime's dynamic quantization",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line: 0 done, 2 something given cannot be used."""
    options = parser().parse_args(arguments)
    with exit_codes():
        for line in _export(options.checkpoint, options.out, options.format, options.precision):
            print(line)


def _export(checkpoint: str, out: Path | None, form: str, precision: str | None) -> list[str]:
    precision = precision or DEFAULT_PRECISION[form]
    if precision not in PRECISIONS[form]:
        raise InputError(f"the format {form} has no {precision}; choose {' or '.join(PRECISIONS[form])}")
    if form == "onnx":
        from sentemb.export.onnx_folder import export_onnx  # torch, seconds

        return export_onnx(checkpoint, out, precision)
    if out is None:
        raise InputError(
            "without --format onnx, export writes the format model2vec, which needs OUT; give a new folder"
        )
    from sentemb.export.static_table import export_static

    return export_static(checkpoint, out, precision)
