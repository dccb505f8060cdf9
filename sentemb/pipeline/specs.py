"""Specs that are wrong, seen before any data is read."""

from sentemb.corpus import CLEANINGS
from sentemb.encoders import HEADS
from sentemb.objectives import OBJECTIVES
from sentemb.pairs import PAIRS
from sentemb.pipeline.model import check_encoder
from sentemb.pipeline.settings import DataSettings, EncoderSettings, ObjectiveSettings, PairSettings
from sentemb.registry import build, check


def check_specs(
    data: DataSettings, encoder: EncoderSettings, pairs: PairSettings | None, objective: ObjectiveSettings | None
) -> None:
    """InputError for a spec that names nothing, or an option that it has not; None: the caller gives an object."""
    check_encoder(encoder)
    build(CLEANINGS, data.clean, "clean")
    if pairs is not None:
        check(PAIRS, pairs.pairs, "pairs", ("ranges",))
    if objective is not None:
        check(HEADS, objective.head, "head", ("dimension",))
        build(OBJECTIVES, objective.objective, "objective")
