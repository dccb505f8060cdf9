"""The settings of a run by concern. Each class goes to the stage that needs it, and to no other.

Their fields are the flags of the recipes, the keyword arguments of ``sentemb.train`` and the keys of ``settings`` in a
run's config.json. Nothing heavy is imported, so that ``--help`` answers at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

from sentemb.errors import InputError
from sentemb.languages import DEFAULT, check_language
from sentemb.runs import parse_prefixes
from sentemb.settings import check_settings, setting
from sentemb.training import TrainingSettings

Kind = TypeVar("Kind")
PASSAGES = "passages"  # of the setting search: a sentence finds its passage in the corpus' held-out documents


@dataclass(frozen=True)
class DataSettings:
    """The text, its teacher and its guide."""

    corpus: str | None = setting(
        "sample",
        "sample; a folder of .txt books; a book, or a file with a sentence a line (also .gz, .zst, .xz); a .parquet, "
        ".jsonl, .csv or .tsv file (table:path=,column=); hub:name=,streaming=; bookcorpus:boundaries=; "
        "labelled:path=FILE; several as 'A + B*0.5', with how often their pairs are seen in an epoch",
    )
    language: str = setting(
        DEFAULT,
        "language of raw text, for splitting it into sentences: de, fr, ja, ...; docs/corpora.md lists all codes",
    )
    clean: str = setting(
        "none",
        "leave sentences out of the pairs: none, or drop:min_tokens=1,max_tokens=0,letters=0.5,script=any,"
        "duplicates=none (document, corpus),near_duplicates=0 (share of a document's sentences); sentemb "
        "inspect CORPUS shows what that would do",
    )
    max_length: int = setting(40, "longest sentence in tokens; longer ones are cut", at_least=1)
    teacher: str | None = setting(
        None,
        "a finished model, whose embeddings of the training sentences the objective learns: a folder, a hub name, "
        "or minilm; NAME:layers=A-B takes the pooled states of these layers; also pooling=mean (max, cls, last), "
        "prompt=, scale=standard (each dimension with variance 1), dim=N (principal components). The embeddings are "
        "computed once and cached",
    )
    teacher_sentences: int | None = setting(
        None, "train on N sentences of the training documents, which the teacher embeds; default all", at_least=2
    )

    guide: str | None = setting(
        None,
        "a model that detects false negatives: a candidate that it puts nearer to the anchor than the positive "
        "is not a negative, whatever the contrastive objective. NAME:margin=0,relative_margin=0 leaves out those above "
        "c - margin - relative_margin * |c|, c its cosine of the positive pair; also layers=, pooling=, prompt=. Its "
        "embeddings are computed once and cached",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        check_language(self.language)
        if self.teacher_sentences is not None and self.teacher is None:
            raise InputError("--teacher-sentences is for --teacher; give one, or leave it out")


@dataclass(frozen=True)
class EncoderSettings:
    """The encoder."""

    encoder: str | None = setting(
        "rnn",
        "rnn:cell=,hidden=,layers=,bidirectional=,pooling=,embeddings=,dropout= | static:... | either with "
        "distill=,dim=,words=,phrases= (a word table from a teacher) | "
        "transformer:name=,pooling=,dropout=,mlp=,keep_layers= (name: a hub id, a folder, minilm)",
    )
    init: str | None = setting(
        None, "start from this finished model instead of --encoder: a folder, a run, a hub name, or minilm"
    )
    towers: int = setting(1, "1 encoder, or 2: one for each side of a pair; the model is then [f; g]", choices=(1, 2))
    prompts: str | None = setting(
        None,
        'text before the texts of each side, while training and in the model: anchor="query: ",positive="passage: "; '
        "by default the model's own default prompt, which encode puts before each text",
    )
    lora: str | None = setting(
        None,
        "train low-rank adapters instead of a transformer's weights (LoRA, by peft): "
        "rank=8,alpha=16,dropout=0,targets=all (or ends of names of linear layers: query+value). The saved model has "
        "the adapters merged into its weights",
    )
    new_tokens: int = setting(
        0,
        "add to the tokenizer the N most frequent words of the training sentences that it splits; each starts as the "
        "mean of its pieces. For WordPiece tokenizers (BERT's), in transformer and static encoders",
        at_least=0,
    )
    attention: str = setting(
        "auto",
        "attention of transformers: auto (packed where it works), packed (no padding), padded, sdpa, eager",
        choices=("auto", "packed", "padded", "sdpa", "eager"),
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.lora is not None and self.new_tokens:
            raise InputError(
                "--lora trains no word embeddings, and those of --new-tokens must be; leave one of them out"
            )


@dataclass(frozen=True)
class ObjectiveSettings:
    """The objective."""

    objective: str = setting(
        "infonce",
        "name or name:option=value,...; docs/objectives.md has the table of all: formula, negatives, options. "
        "Contrastive: infonce, ntxent, dcl, dpr, cmc, cpc, joint_infonce (--pairs contiguous), hard_negatives, "
        "supcon and cross_entropy (classes); geometry: align_uniform, mix; Wang & Liu: simple, hard, hard_simple; "
        "with memory: moco, memory_bank; without negatives: byol, barlow_twins, vicreg; from a teacher: distill, "
        "distill_similarity; near the model of --init: anchor. A sum: 'infonce + anchor*0.1'",
    )
    head: str = setting(
        "none",
        "layers between the embeddings and the objective, left out of the model: none, mlp, projection:out=",
    )
    matryoshka: str | None = setting(
        None,
        "apply the objective to prefixes of the embedding, too, so that embeddings can be cut: lengths, each with a "
        "weight where it is not 1 (64:0.5,128,256); the loss is the mean over the prefixes and the full dimension",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        if self.matryoshka is not None:
            parse_prefixes(self.matryoshka)
            if self.head != "none":
                raise InputError(
                    "--matryoshka is of prefixes of the model's embeddings, and a head would mix their dimensions "
                    "before the objective sees them; leave --head or --matryoshka out"
                )


@dataclass(frozen=True)
class PairSettings:
    """The positive pairs."""

    pairs: str = setting(
        "neighbours",
        "which texts form a positive pair: neighbours:window=,both=,documents=,classes= | contiguous | dropout | "
        "augment:how=,rate= | labelled | passages:kind=,sentences=,tokens= (kind: inverse_cloze with removal=, crops "
        "with shortest=,longest=,overlap=, or title)",
    )
    max_pairs: int | None = setting(None, "train on N of the pairs, drawn by --seed; default all", at_least=2)
    negatives: str = setting(
        "none",
        "more hard negatives of each pair: none, or mined:by=MODEL,per_anchor=4,pool=50000,skip=10,margin=0.05,"
        "refresh=0: the nearest of a pool, except the first skip= and those within margin= of the positive's score; "
        "by=self: by the model in training, again after each refresh= updates; by=bm25: by common words. With --pairs "
        "passages they are other passages, near the title, or near the sentence that inverse_cloze draws in the first "
        "epoch; not for crops",
    )
    force: bool = setting(False, "run although the run is known to degenerate: dropout pairs without dropout")

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class EvaluationSettings:
    """Evaluation."""

    dev: str = setting(
        "auto",
        "the score that chooses best/: stsb (STS-B dev), heldout (MRR of held-out pairs), search (nDCG@10 of "
        "--search), teacher (agreement with the teacher on held-out sentences), or auto: stsb if its data is present, "
        "else heldout",
        choices=("auto", "stsb", "heldout", "search", "teacher"),
    )
    search: str | None = setting(
        None,
        "the search task of the final scores and of --dev search: judged queries (a folder in BEIR's layout, or "
        "a table with columns query and passage), or passages (a sentence must find its passage in the held-out "
        "documents; the default of --dev search)",
    )
    select: str = setting("last", "which model becomes model/: last or best", choices=("last", "best"), may_change=True)
    data: str | None = setting(
        None,
        "SentEval's folder, with downstream/ in it; default $SENTEMB_DATA/senteval, else the sample's two tasks",
        may_change=True,
    )
    tasks: str | None = setting(
        None,
        "tasks of the final scores; default MR,CR for books and STS-B for other recipes, if their data is present",
        may_change=True,
    )
    score: bool = setting(True, "--no-score leaves out these tasks (geometry is always measured)", may_change=True)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class ComputeSettings:
    """Precision, threads and processes."""

    precision: str = setting(
        "auto",
        "auto (bf16 for transformers where the processor has it), no, bf16, fp16",
        choices=("auto", "no", "bf16", "fp16"),
    )
    threads: int | None = setting(
        None,
        "CPU threads per process; default: OMP_NUM_THREADS, else all cores, shared by this machine's processes",
        at_least=1,
        may_change=True,
    )
    timeout: float = setting(
        10.0,
        "minutes that processes of a run wait for one that is dead, hangs, or scores or saves for longer; "
        "preparing the corpus and the final scores may take any time",
        above=0,
        at_most=10_000,
        may_change=True,
    )
    track: str | None = setting(
        None, "also log to a tracker that accelerate has, for example tensorboard", may_change=True
    )

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class RunSettings:
    """The run folder. These settings are for one call, and the run does not store them."""

    out: Path | None = setting(None, "a new run folder; default runs/NAME, or the next free runs/NAME-2, ...")
    resume: bool = setting(
        False,
        "continue the run in --out (default: the newest of runs/NAME, runs/NAME-2, ...) from its newest valid "
        "checkpoint, with its settings; together with other flags, start the run if there is none yet. SIGTERM or "
        "Ctrl-C save a run after the current step and end it",
    )
    elastic: bool = setting(
        False,
        "let --resume continue with another number of processes: the same global batch, different dropout masks",
    )
    imports: tuple[str, ...] = ()  # files that add rows to tables, which the card names (--import)
    command: bool = False  # whether a command began it: a second signal exits, and one resumes by a command line

    def __post_init__(self) -> None:
        if self.elastic and not self.resume:
            raise InputError("--elastic is for runs that are continued; give it with --resume")


STORED = (  # with a run
    DataSettings,
    EncoderSettings,
    ObjectiveSettings,
    PairSettings,
    TrainingSettings,
    EvaluationSettings,
    ComputeSettings,
)


def default_settings() -> dict[str, Any]:
    """The default of each setting that is stored with a run, by name."""
    return {each.name: each.default for kind in STORED for each in fields(kind) if each.metadata}


def may_change(name: str) -> bool:
    """Whether a resumed run may have another value of a setting."""
    return any(each.name == name and each.metadata.get("may_change") for kind in STORED for each in fields(kind))


def pick(kind: type[Kind], settings: Mapping[str, Any]) -> Kind:
    """The settings of one class, from a mapping that may have others.

    Raises:
        InputError: a value has the wrong type or lies outside of its bounds.
    """
    names = [each.name for each in fields(kind)]  # type: ignore[arg-type]
    return kind(**{name: settings[name] for name in names if name in settings})
