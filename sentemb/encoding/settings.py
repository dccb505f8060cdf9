"""What may be asked of an encoding. Nothing heavy is imported, so that ``--help`` answers at once."""

from dataclasses import dataclass
from pathlib import Path

from sentemb.errors import InputError
from sentemb.languages import DEFAULT, check_language
from sentemb.settings import check_settings, setting

PRECISIONS = ("float32", "float16", "int8", "binary")
FORMATS = ("numpy", "parquet", "safetensors")
TOWERS = ("f", "g", "both")


@dataclass(frozen=True)
class EncodingSettings:
    """The encoding of a corpus."""

    precision: str = setting(
        "float32",
        "of the numbers: float32, float16, int8 (256 steps of each dimension's range) or binary (signs, a bit each)",
        choices=PRECISIONS,
    )
    format: str = setting("numpy", "format of the files: numpy (a memory map), parquet or safetensors", choices=FORMATS)
    truncate: int | None = setting(
        None, "keep only the first N dimensions, scaled to unit length if the model's embeddings are", at_least=1
    )
    prompt: str | None = setting(
        None, 'text before each sentence, such as "passage: "; default: the model\'s default prompt'
    )
    prompt_name: str | None = setting(None, "the same by its name in the model: document, query, ...")
    tower: str | None = setting(
        None, "of a model with two towers: f, g (documents, in a search) or both side by side (default)", choices=TOWERS
    )
    text: bool = setting(False, "write the sentences, too")
    language: str = setting(DEFAULT, "of raw text, whose rules split it into sentences: de, fr, ja, ...")
    device: str | None = setting(None, "cpu, cuda, mps, ...; default: the best there is")
    threads: int | None = setting(None, "CPU threads; default: OMP_NUM_THREADS, else all cores", at_least=1)

    def __post_init__(self) -> None:
        check_settings(self)
        check_language(self.language)
        if self.prompt is not None and self.prompt_name is not None:
            raise InputError("--prompt and --prompt-name both say what goes before a sentence; give one of them")


def refuse_used_out(out: Path) -> None:
    """InputError where something is at ``out``, an empty folder excepted, or it cannot be a folder."""
    if out.is_symlink() or out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise InputError(f"{out} is there already, and nothing is overwritten; give a new folder")
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise InputError(f"{out} cannot be a folder, as {above} is a file; give another folder")
