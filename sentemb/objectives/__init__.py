"""Training objectives: modules from two views of one batch to a scalar loss.

``x`` and ``y`` are ``[n, d]``, already gathered from every process; row i of ``x`` and row i of ``y`` are a positive
pair. Rows need not have unit length. What else an objective may take is in Extras. To add one: a class with a ``loss``
that says what it is, and a line in OBJECTIVES. ``python -m sentemb.objectives`` prints the table of docs/objectives.md.
"""

from sentemb.objectives.align_uniform import AlignUniform, Mix
from sentemb.objectives.anchor_rows import AnchorRows
from sentemb.objectives.base import NEEDS, Extras, Objective, copied, positive
from sentemb.objectives.byol import BYOL
from sentemb.objectives.contiguous import CPC, JointInfoNCE
from sentemb.objectives.contrastive import CMC, DCL, DPR, HardNegatives, InfoNCE, NTXent, SupCon
from sentemb.objectives.cross_entropy import CrossEntropy
from sentemb.objectives.custom import FunctionObjective, as_objective, name_of
from sentemb.objectives.decorrelation import BarlowTwins, VICReg
from sentemb.objectives.distillation import Anchor, Distill, DistillSimilarity
from sentemb.objectives.guide import GuideEmbeddings, GuideMargin
from sentemb.objectives.hard_contrastive import Hard, HardSimple, Simple
from sentemb.objectives.matryoshka import Matryoshka
from sentemb.objectives.memory_bank import MemoryBank
from sentemb.objectives.moco import MoCo
from sentemb.objectives.weighted_sum import WeightedSum, weighted_sum

OBJECTIVES: dict[str, type[Objective]] = {
    "infonce": InfoNCE,
    "ntxent": NTXent,
    "joint_infonce": JointInfoNCE,
    "hard_negatives": HardNegatives,
    "dpr": DPR,
    "dcl": DCL,
    "supcon": SupCon,
    "cross_entropy": CrossEntropy,
    "cpc": CPC,
    "cmc": CMC,
    "align_uniform": AlignUniform,
    "mix": Mix,
    "simple": Simple,
    "hard": Hard,
    "hard_simple": HardSimple,
    "moco": MoCo,
    "memory_bank": MemoryBank,
    "byol": BYOL,
    "barlow_twins": BarlowTwins,
    "vicreg": VICReg,
    "distill": Distill,
    "distill_similarity": DistillSimilarity,
    "anchor": Anchor,
}


def build_objective(spec: str) -> Objective:
    """The objective that ``spec`` names: one of OBJECTIVES, or a sum ``A + B*0.5`` of them, each with its options.

    Raises:
        InputError: as :func:`sentemb.registry.build`; a weight of 0, or objectives that cannot be added.
    """
    return weighted_sum(OBJECTIVES, spec)


__all__ = [
    "FunctionObjective",
    "as_objective",
    "name_of",
    "BYOL",
    "CMC",
    "CPC",
    "DCL",
    "DPR",
    "NEEDS",
    "OBJECTIVES",
    "AlignUniform",
    "Anchor",
    "AnchorRows",
    "BarlowTwins",
    "CrossEntropy",
    "Distill",
    "DistillSimilarity",
    "Extras",
    "GuideEmbeddings",
    "GuideMargin",
    "Hard",
    "HardNegatives",
    "HardSimple",
    "InfoNCE",
    "JointInfoNCE",
    "Matryoshka",
    "MemoryBank",
    "Mix",
    "MoCo",
    "NTXent",
    "Objective",
    "Simple",
    "SupCon",
    "VICReg",
    "WeightedSum",
    "build_objective",
    "copied",
    "positive",
]
