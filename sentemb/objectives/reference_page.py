"""The page docs/objectives.md, made from what the objectives say of themselves."""

from sentemb.objectives import OBJECTIVES
from sentemb.objectives.base import Objective
from sentemb.registry import options_of

HEAD = """# Objectives

`--objective NAME` or `--objective NAME:option=value,option=value` in every recipe; `build_objective("NAME:...")` in
Python. `A + B*0.5` is the [sum](#sums) of several. This page is printed by `python -m sentemb.objectives`; a test keeps
it equal to the code.

x and y are the two views of a batch of n pairs, from all processes; h is the number of hard negatives a pair has.
Unless a row says something else, views are brought to unit length and s_ij = x_i . y_j / temperature. Sums run over all
candidates; a copy of the anchor or of its positive is not a negative of it, whatever the objective, and with a
[guide](#a-guide) candidates that it finds nearer than the positive are none, either. m is the momentum
encoder, an average of the encoder over past updates, which the training loop makes. `--head mlp` or
`--head projection:hidden=,out=,layers=` puts a projection head (SimCLR's) before any of them and leaves it out of the
model.

| name | formula | negatives per anchor | x and y may change places | needs | options | source |
|---|---|---|---|---|---|---|
"""
TAIL = """
Needs: `runs` are batches of consecutive sentences (`--pairs contiguous`); `negatives` are columns of hard negatives and
`labels` a column of classes of a labelled corpus (`--corpus labelled:path=FILE,label=COLUMN`); `targets` are the
momentum encoder's embeddings; `teacher` are another model's embeddings of the training sentences
([in Python](python.md#a-teacher) an array). What an objective needs and does not get is an error before step 1.
`infonce` and `dpr` take hard negatives where there are some; `cpc` takes runs, and needs them for more than one offset.

Beyond 2,048 pairs scores are worked out a tile at a time (`sentemb/geometry/tiled_scores.py`): no objective holds n x n
numbers, and the exact gradient works them out once more. `benchmarks/objectives.py` measures time and memory.
`memory_bank` holds 4 d bytes for each sentence that is trained on, in memory and in each checkpoint; `moco` and `byol`
hold the encoder twice. With two encoders `memory_bank` and a symmetric `moco`, which keep both sides in one place, are
refused.

To add one: a class with a `loss` (and `prepare`, `update_state`, `momentum` where it learns or remembers something)
that says what it is, and a line in `OBJECTIVES`.

## Sums

`--objective "distill*2 + infonce:temperature=0.1*0.5"` is 2 times the first loss plus 0.5 times the second; a part
without a weight has 1. In Python, `WeightedSum([(objective, 2.0), (function, 0.5)])` adds objects. All parts see the
same batch, each of it what it needs or takes; a part learns and remembers what it does alone, and one momentum
encoder serves all that need one. The log has each part's loss before weighting as `loss_NAME`.

Refused are parts of which some need runs of consecutive sentences and others pairs, parts that score by cosine with
others by inner product, and two that move the momentum encoder at different rates (`moco` and `byol`). The loss of
guessing is in the log where all parts have one.

## A guide

`--guide MODEL` ([options](recipes.md#a-guide)) leaves false negatives out of {guided}. A candidate z of
an anchor a with the positive p is not a negative where g(a, z) > c - margin - relative_margin |c|, c = g(a, p) and g
the guide's cosine (Solatorio 2024, GISTEmbed, section 3). Where an anchor has several positives, c is that of its pair
(`supcon`, whose own class stays) or of the nearer neighbour (`joint_infonce`). `hard` and `hard_simple` take their
nearest of what is left; an anchor without negatives has the loss of its positive alone. With a guide `moco` and
`memory_bank` remember its embeddings, too, and `simple` works out all scores. Of `mix` it is for the contrastive term.

## A teacher

`distill` puts each sentence where the teacher puts it; `distill_similarity` only asks that sentences be as alike as
the teacher finds them. The student may have any dimension. Where it differs from the teacher's, `distill` learns a
linear map between them and leaves it out of the model, which then has the student's own dimension. To have the
teacher's dimension in the saved model, give the encoder that many (`--encoder rnn:out=768`): its last layer is saved
with it, and no map is needed. `mse` depends on the length of the teacher's embeddings, `cosine` does not.

## Staying near the start

`--init MODEL --objective "infonce + anchor*0.1"` trains a finished model and limits how far it moves: `anchor` is the
distance of each embedding from that of the same sentence by MODEL. MODEL embeds the training sentences once, as a
teacher does (and is none in any other way: `--teacher` is left out). The log has the distance as `loss_anchor`, and on
held-out sentences `teacher_cosine` and `teacher_similarity` to the start; the page draws both. To hold the
similarities of sentences instead of their places, use MODEL as a teacher:
`--init MODEL --teacher MODEL --objective "infonce + distill_similarity*0.1"`. Refused with `anchor` are a head, another
teacher, and different prompts for the two sides.
"""


def page() -> str:
    """docs/objectives.md: each objective's formula, negatives, needs, options with defaults, and source."""
    *names, last = [f"`{name}`" for name, kind in OBJECTIVES.items() if "guide" in kind.takes]
    tail = TAIL.replace("{guided}", f"{', '.join(names)} and {last}")
    return HEAD + "".join(_row(name, kind) for name, kind in OBJECTIVES.items()) + tail


def _row(name: str, kind: type[Objective]) -> str:
    options = ", ".join(f"{key}={_shown(p.default)}" for key, p in options_of(kind).items())
    needs = ", ".join(sorted(kind.needs)) or "-"
    formula = kind.formula.replace("|", "\\|")
    cells = (
        f"`{name}`",
        formula,
        kind.negatives_per_anchor,
        kind.interchangeable_views,
        needs,
        f"`{options}`",
        kind.source,
    )
    return f"| {' | '.join(cells)} |\n"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
