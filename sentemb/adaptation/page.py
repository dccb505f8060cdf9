"""The page of an adaptation: whether it paid, what was tried, gain against loss, neighbours before and after."""

from collections.abc import Mapping
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from sentemb.adaptation.measures import GAIN
from sentemb.report import (
    BLUE,
    GREEN,
    GREY,
    LOOK,
    ORANGE,
    VERMILLION,
    Drawn,
    PageTable,
    Tile,
    html_page,
    image,
    labelled_axes,
    legend_below,
    nearest_neighbours,
    sphere_content,
)
from sentemb.runs import duration

Content = Mapping[str, Any]
FRONTIER = """Each point is a model that was tried: to the right what it gains on your text, downward what it loses
elsewhere. Where a method's model was mixed with yours, a line joins yours, the mixtures and the tuned model. The
dashed line is the loss that is allowed. Measured on the half of the held-out text that methods are chosen on."""
TABLE = """Differences from your model in points, with intervals of 95 % by a paired bootstrap, on the half of the
held-out text that methods are chosen on. The best of several looks a little better there than it is."""
FINAL = """On the other half of the held-out text, which has chosen nothing: in points, with intervals of 95 % by a
paired bootstrap over documents, or over single items where there are fewer than ten documents."""
BEST = """What the best setting of each method gains on your text, in points, on the half of the held-out text that
methods are chosen on, with intervals of 95 %. Elsewhere: the change of {general}; {allowed:g} points may be lost."""


def adaptation_page(content: Content) -> str:
    """The page, as HTML, of what results.json holds."""
    begun, corpus = content["begun"], content["corpus"]
    with style.context(["default", LOOK]):
        figure = _frontier(content)
        title = "Gain against loss"
        frontier = Drawn("frontier", title, FRONTIER, image(figure, "frontier", title) if figure else "")
    about = {**begun, "processor": content["processor"], **content["versions"]}
    settings = {name: value for name, value in about.items() if value is not None}
    headline, stop, detail = content["verdict"].partition(". ")
    sphere = sphere_content(dict(content.get("sphere") or {}), "start", alike=True)
    return html_page(
        "adaptation.html",
        "sentemb.adaptation",
        ["sphere.js"] if sphere else [],
        title=f"Adapting {begun['model']} to {corpus['name']}",
        headline=headline + stop.strip(),
        detail=detail,
        tiles=[_tile(row) for row in _scores(content)] or _best_of_each(content),
        explained=FINAL if content["final"] else BEST.format(**content) if content["candidates"] else "",
        sphere=sphere,
        notes=content["notes"],
        facts={
            "sentences": f"{corpus['sentences']:,}",
            "documents": f"{corpus['documents']:,}",
            "budget": duration(content["budget"]),
            "spent of it": duration(content["spent"]),
            "with the final scores": duration(content["seconds"]),
        },
        final=_final(content),
        tried=_tried(content),
        methods=[f"{name}: {about}" for name, about in content.get("arms", {}).items()]
        + [f"{name} was not tried: {why}" for name, why in content.get("refused", {}).items()],
        frontier=frontier,
        neighbours=nearest_neighbours(dict(content.get("examples") or {}), "start"),
        settings=PageTable("Settings and versions", (), list(settings.items()), wide=False),
    )


def _final(content: Content) -> PageTable:
    rows = [
        [row["measure"], f"{row['before']:.2f}", f"{row['after']:.2f}", _interval(row, "difference", "low", "high")]
        for row in _scores(content)
    ]
    return PageTable("The scores", ["measure, in points", "before", "after", "difference"], rows, FINAL)


def _scores(content: Content) -> list[dict[str, Any]]:
    """The final rows. The gain is the mean over the measures of the text.

    Where there is one such measure, the two are the same number, and the measure is shown with the gain's interval. The
    verdict states that interval, and the measure's own one comes from other draws.
    """
    rows = [dict(row) for row in content["final"]]
    gain = next((row for row in rows if row["measure"] == GAIN), None)
    if gain is None:
        return rows
    others = [row for row in rows if row is not gain]
    same = [row for row in others if all(row[key] == gain[key] for key in ("before", "after"))]
    if not same:
        gain["measure"] = "mean on your text"
        return rows
    same[0].update(gain | {"measure": same[0]["measure"]})
    return others


def _tile(row: Content) -> Tile:
    before, after = (f"{row[key]:.2f}" for key in ("before", "after"))
    verdict = _verdict(row["low"], row["high"])
    return Tile(row["measure"], before, after, verdict, _interval(row, "difference", "low", "high"))


def _verdict(low: float, high: float) -> str:
    """Of the interval as it is shown: a change that rounds to 0 is none."""
    return "better" if round(low, 2) > 0 else "worse" if round(high, 2) < 0 else "cannot tell"


def _best_of_each(content: Content) -> list[Tile]:
    """Where no model was judged at the end: of each method the setting that gains most."""
    best = {row["arm"]: row for row in sorted(content["candidates"], key=lambda row: float(row["gain"]))}
    return [
        Tile(
            ", ".join(filter(None, (arm, row["setting"]))),
            "",
            f"{row['gain']:+.2f}",
            _verdict(row["gain_low"], row["gain_high"]),
            f"{row['gain_low']:+.2f} to {row['gain_high']:+.2f}; elsewhere {row['general']:+.2f}",
        )
        for arm, row in sorted(best.items(), key=lambda entry: -float(entry[1]["gain"]))
    ]


def _tried(content: Content) -> PageTable:
    rows = [
        [
            row["arm"],
            row["setting"] or "as trained",
            f"{row['updates']:,}" if row["updates"] else "–",
            duration(row["seconds"]),
            _interval(row, "gain", "gain_low", "gain_high"),
            _interval(row, "general", "general_low", "general_high"),
            row["status"],
        ]
        for row in content["candidates"]
    ]
    head = ["method", "setting", "updates", "time", "gain on your text", content.get("general"), ""]
    return PageTable("What was tried", head, rows, TABLE)


def _weight_of(row: Content) -> float:
    """The share of the tuned weights: 1 of an arm as trained."""
    return float(row["setting"].split()[1]) if row["setting"] else 1.0


def _frontier(content: Content) -> Figure | None:
    points = content["frontier"]
    if len(points) < 2:
        return None
    figure = Figure(figsize=(5.6, 4.6), layout="constrained")
    axes = labelled_axes(figure.subplots(), "gain on your text, points", "change elsewhere, points")
    arms = list(dict.fromkeys(row["arm"] for row in points if row["arm"] != "keep"))
    colours = dict(
        zip(arms, [BLUE, VERMILLION, GREEN, ORANGE, *[f"C{i}" for i in range(4, 4 + len(arms))]], strict=False)
    )
    for arm in arms:
        mine = [row for row in points if row["arm"] == arm]
        joined = sorted((row for row in mine if row["setting"][:5] in ("", "weigh")), key=_weight_of)
        if any(row["setting"] for row in joined):
            axes.plot([0, *(r["gain"] for r in joined)], [0, *(-r["loss"] for r in joined)], color=colours[arm], lw=1)
        axes.scatter([r["gain"] for r in mine], [-r["loss"] for r in mine], color=colours[arm], label=arm, zorder=3)
    axes.scatter([0], [0], color="black", marker="s", label="your model", zorder=3)
    axes.axhline(-content["allowed"], color=GREY, linestyle="--", linewidth=1)
    legend_below(figure)
    return figure


def _interval(row: Mapping[str, Any], value: str, low: str, high: str) -> str:
    return f"{row[value]:+.2f} [{row[low]:+.2f}, {row[high]:+.2f}]"
