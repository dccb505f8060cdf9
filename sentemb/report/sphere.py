"""The sphere of a page: held-out pairs before and after training, for the page's script to draw."""

import numpy as np

from sentemb.report.examples import when
from sentemb.runs import Record, as_dict, as_list, number, plain


def sphere_content(sphere: Record, initial: str | None, alike: bool) -> Record | None:
    """What the script draws; None without a sphere that can be drawn, as in runs of earlier versions.

    Args:
        sphere: of :func:`sentemb.validation.sphere_points`.
        initial: the encoder that stands under "before"; the others stand under "after".
        alike: whether both sentences of a pair are of one kind, as neighbours are to one encoder. They have one colour.
    """
    pairs = [[plain(text) for text in as_list(pair)] for pair in as_list(sphere.get("pairs"))]
    encoders: list[Record] = []
    for name, value in as_dict(sphere.get("encoders")).items():
        encoder = as_dict(value)
        points, cosines = (_numbers(encoder.get(key)) for key in ("points", "cosines"))
        if points.shape == (len(pairs), 2, 3) and cosines.shape == (len(pairs),):
            lists = {"points": points.ravel().tolist(), "cosines": cosines.tolist()}
            encoders.append({"title": when(name, initial), "share": f"{number(encoder.get('share')):.0%}", **lists})
    content: Record = {"pairs": pairs, "encoders": encoders, "alike": alike}
    return content if encoders and all(len(pair) == 2 for pair in pairs) else None


def _numbers(value: object) -> np.ndarray:
    """As an array; empty where it is none of finite numbers."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        return np.zeros(0)
    return array if np.isfinite(array).all() else np.zeros(0)
