"""Check specs before any data is read."""

from sentemb.corpus import CLEANINGS
from sentemb.encoders import HEADS
from sentemb.mining import BM25, parse_negatives, refuse_missing_library
from sentemb.objectives import build_objective
from sentemb.pairs import PAIRS
from sentemb.pipeline.model import check_encoder
from sentemb.pipeline.settings import DataSettings, EncoderSettings, ObjectiveSettings, PairSettings
from sentemb.pipeline.teaching import has_anchor, margin_of
from sentemb.registry import build, check
from sentemb.teacher import parse_teacher


def check_specs(
    data: DataSettings, encoder: EncoderSettings, pairs: PairSettings, objective: ObjectiveSettings
) -> None:
    """Raise an InputError for an unknown name or option in a spec."""
    check_encoder(encoder)
    build(CLEANINGS, data.clean, "clean")
    if data.teacher is not None:
        parse_teacher(data.teacher)
    if data.guide is not None:
        margin_of(data)
    check(PAIRS, pairs.pairs, "pairs", ("ranges", "text"))
    if (negatives := parse_negatives(pairs.negatives)) is not None and negatives.by == BM25:
        refuse_missing_library()
    check(HEADS, objective.head, "head", ("dimension",))
    has_anchor(build_objective(objective.objective), data, encoder, objective.head != "none")
