"""The page of an adaptation: whether it paid, what was tried, gain against loss, neighbours before and after."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

from sentemb.report import (
    BLUE,
    GREEN,
    GREY,
    LOOK,
    ORANGE,
    VERMILLION,
    html_page,
    image,
    labelled_axes,
    neighbours_section,
)
from sentemb.runs import duration, safe

Content = Mapping[str, Any]
FRONTIER = """Each point is a model that was tried: to the right what it gains on your text, downward what it loses
elsewhere. Models joined by a line are the start and an arm with more and more of its tuned weights. The dashed line is
the loss that is allowed. Measured on the half of the held-out text that methods are chosen on."""
TABLE = """Differences from your model in points, with intervals of 95 % by a paired bootstrap, on the half of the
held-out text that methods are chosen on. The best of several looks a little better there than it is."""
FINAL = """On the other half of the held-out text, which has chosen nothing: in points, with intervals of 95 % by a
paired bootstrap over documents, or over single items where there are fewer than ten documents."""


def adaptation_page(content: Content) -> str:
    """The page, as HTML, of what results.json holds."""
    title = f"Adapting {safe(content['begun']['model'])} to {safe(content['corpus']['name'])}"
    with style.context(["default", LOOK]):
        parts = [_summary(content), _final(content), _tried(content), _frontier(content)]
    examples = neighbours_section(dict(content.get("examples") or {}), "start")
    body = f"<h1>{title}</h1>\n" + "\n".join(filter(None, [*parts, examples, _details(content)]))
    return html_page(title, body)


def _summary(content: Content) -> str:
    notes = "".join(f"<p class='note'>{safe(note)}</p>" for note in content["notes"])
    facts = {
        "sentences": f"{content['corpus']['sentences']:,}",
        "documents": f"{content['corpus']['documents']:,}",
        "budget": duration(content["budget"]),
        "spent of it": duration(content["spent"]),
        "with the final scores": duration(content["seconds"]),
        "processor": content["processor"],
    }
    listed = "".join(f"<div><dt>{safe(name)}</dt><dd>{safe(value)}</dd></div>" for name, value in facts.items())
    verdict = f"<p><strong>{safe(content['verdict'])}</strong></p>"
    return f"<section><h2>Did it pay?</h2>\n{verdict}\n{notes}<dl>{listed}</dl></section>"


def _final(content: Content) -> str:
    rows = [
        [row["measure"], f"{row['before']:.2f}", f"{row['after']:.2f}", _interval(row, "difference", "low", "high")]
        for row in content["final"]
    ]
    if not rows:
        return ""
    return _section("The scores", FINAL, ["measure, in points", "before", "after", "difference"], rows)


def _tried(content: Content) -> str:
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
    head = ["method", "setting", "updates", "time", "gain on your text", str(content.get("general")), ""]
    about = "".join(f"<li>{safe(name)}: {safe(text)}</li>" for name, text in content.get("arms", {}).items())
    about += "".join(
        f"<li>{safe(name)} was not tried: {safe(why)}</li>" for name, why in content.get("refused", {}).items()
    )
    listed = f"<ul>{about}</ul>" if about else ""
    return _section("What was tried", TABLE, head, rows, listed) if rows or listed else ""


def _weight_of(row: Content) -> float:
    """The share of the tuned weights: 1 of an arm as trained."""
    return float(row["setting"].split()[1]) if row["setting"] else 1.0


def _frontier(content: Content) -> str:
    points = content["frontier"]
    if len(points) < 2:
        return ""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
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
    axes.legend(frameon=False)
    drawn = image(figure, "frontier", "Gain against loss")
    return (
        "<figure id='frontier'><h2>Gain against loss</h2>"
        f"<div class='paper'>{drawn}</div><figcaption>{FRONTIER}</figcaption></figure>"
    )


def _details(content: Content) -> str:
    rows = {**content["begun"], **content["versions"]}
    body = "".join(
        f"<tr><th scope='row'>{safe(name)}</th><td>{safe(value)}</td></tr>\n"
        for name, value in rows.items()
        if value is not None
    )
    return f"<details><summary>Settings and versions</summary>\n<table><tbody>\n{body}</tbody></table></details>"


def _section(title: str, caption: str, head: Sequence[str], rows: Sequence[Sequence[str]], more: str = "") -> str:
    titles = "".join(f"<th scope='col'>{safe(each)}</th>" for each in head)
    body = "".join(f"<tr>{''.join(f'<td>{safe(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    table = f"<div class='wide'><table><thead><tr>{titles}</tr></thead><tbody>\n{body}</tbody></table></div>"
    return f"<section><h2>{title}</h2>\n{table if rows else ''}{more}<p class='caption'>{caption}</p></section>"


def _interval(row: Mapping[str, Any], value: str, low: str, high: str) -> str:
    return f"{row[value]:+.2f} [{row[low]:+.2f}, {row[high]:+.2f}]"
