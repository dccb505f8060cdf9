"""The page docs/objectives.md, made from what the objectives say of themselves."""

from sentemb.objectives import OBJECTIVES
from sentemb.objectives.base import Objective
from sentemb.registry import options_of

HEAD = """# Objectives

An objective is `--objective NAME` or `--objective NAME:option=value,option=value` in every recipe. In Python it is
`build_objective("NAME:...")`. `A + B*0.5` is a [sum](#sums). `python -m sentemb.objectives` prints this page, and a
test keeps it equal to the code.

| symbol | meaning |
|---|---|
| x, y | the two views of a batch of n pairs, from all processes, of unit length except where a row says so |
| h | hard negatives of a pair |
| s_ij | x_i . y_j / temperature; sums run over all candidates |
| m | the momentum encoder, an average of the encoder over past updates, which the training loop makes |

A copy of the anchor or of its positive is never its negative. With a [guide](#a-guide), candidates that it finds
nearer than the positive are not negatives either. `--head mlp` or `--head projection:hidden=,out=,layers=` puts a
projection head (SimCLR's) before any objective, and leaves it out of the model.

| name | formula | negatives per anchor | x and y may change places | needs | options | source |
|---|---|---|---|---|---|---|
"""
TAIL = """
| needs | what it is |
|---|---|
| `runs` | batches of consecutive sentences (`--pairs contiguous`) |
| `negatives` | columns of hard negatives of a labelled corpus, or `--negatives` |
| `labels` | a column of classes (`--corpus labelled:path=FILE,label=COLUMN`) |
| `targets` | the momentum encoder's embeddings |
| `teacher` | another model's embeddings of the training sentences ([in Python](python.md#a-teacher) an array) |

A need that is not met is an error before step 1. `infonce` and `dpr` take hard negatives where there are some. `cpc`
takes runs, and needs them for more than one offset.

Beyond 2,048 pairs, scores are computed a tile at a time (`sentemb/geometry/tiled_scores.py`). No objective holds n x
n numbers, and the exact gradient computes them once more. `benchmarks/objectives.py` measures time and memory.
`memory_bank` holds 4 d bytes for each training sentence, in memory and in each checkpoint. `moco` and `byol` hold the
encoder twice. `memory_bank` and a symmetric `moco` keep both sides in one place, so two encoders are refused.

To add an objective, write a class with a `loss`, and a line in `OBJECTIVES`. A class that learns or remembers
something also has `prepare`, `update_state` or `momentum`: [Extending](extending.md#an-objective).

## Sums

`--objective "distill*2 + infonce:temperature=0.1*0.5"` is 2 times the first loss plus 0.5 times the second. The
default weight is 1. In Python, `WeightedSum([(objective, 2.0), (function, 0.5)])` adds objects. All parts see the
same batch. Each part has its own learned state, and all share one momentum encoder. The log has each part's loss
before weighting as `loss_NAME`, and the loss of guessing where all parts have one.

These sums are refused:

- parts that need runs of consecutive sentences with parts that need pairs;
- parts that score by cosine with parts that score by inner product;
- two parts that move the momentum encoder at different rates (`moco` and `byol`).

## A guide

`--guide MODEL` ([options](recipes.md#a-guide)) leaves false negatives out of {guided}. A candidate z of an anchor a
with the positive p is not a negative where g(a, z) > c - margin - relative_margin |c|. Here g is the guide's cosine,
and c = g(a, p) (Solatorio 2024, GISTEmbed, section 3).

- For `supcon`, c is that of the anchor's pair, and its own class stays. For `joint_infonce`, c is that of the nearer
  neighbour.
- `hard` and `hard_simple` choose their nearest among the rest. For `mix`, the guide applies to the contrastive term.
- An anchor without negatives has the loss of its positive alone.
- `moco` and `memory_bank` also remember the guide's embeddings. `simple` computes all scores.

## A teacher

`distill` learns where the teacher puts each sentence. `distill_similarity` learns only how similar the teacher finds
two sentences. The student may have any dimension. Where it differs from the teacher's, `distill` learns a linear map
and leaves it out of the model. To save a model with the teacher's dimension, give the encoder that many
(`--encoder rnn:out=768`). Then no map is needed. `mse` depends on the length of the teacher's embeddings, `cosine`
does not.

## Staying near the start

`--init MODEL --objective "infonce + anchor*0.1"` trains a finished model and limits how far it moves. `anchor` is the
distance of each embedding from that of the same sentence by MODEL. MODEL embeds the training sentences once, as a
teacher does, without `--teacher`. The log has the distance as `loss_anchor`. It also has `teacher_cosine` and
`teacher_similarity` to the start, on held-out sentences, and the page draws both.

To preserve similarities instead of places, use MODEL as a teacher:
`--init MODEL --teacher MODEL --objective "infonce + distill_similarity*0.1"`. A head, another teacher, and different
prompts for the two sides are refused with `anchor`.
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
