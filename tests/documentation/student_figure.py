"""Draws docs/assets/student.svg, the README's first figure, from the table of static students in docs/results.md.

python -m tests.documentation.student_figure
"""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results.md"
FIGURE = ROOT / "docs" / "assets" / "student.svg"
LABELS = {  # rows of the table that are drawn, from top to bottom
    "trained": "sentemb, trained on text",
    "ours": "sentemb, vocabulary alone",
    "model2vec": "model2vec",
    "teacher": "MiniLM, the teacher",
}
LOWEST, HIGHEST = 66, 80  # of the axis of scores
SCORES_LEFT, SPEEDS_LEFT, PANEL = 210, 540, 230  # pixels
TOP, ROW = 70, 36
STYLE = """
text { font: 14px system-ui, sans-serif; fill: #1f2328 }
.title { font-weight: 600 } .small { font-size: 12px; fill: #59636e }
.rule { stroke: #d1d9e0 } .ours { fill: #0072b2 } .other { fill: #8c959f }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .small { fill: #9198a1 } .rule { stroke: #3d444d } .ours { fill: #56b4e9 }
}
"""


def measured(page: str) -> dict[str, tuple[float, float]]:
    """The mean score and the sentences a second of each row of the table of static students.

    Raises:
        ValueError: ``page`` lacks the table or one of the rows that are drawn.
    """
    table = re.search(r"^ +dim +MB +sentences/s .* mean\n((?:\w.*\n)+?)(?=\w+ less )", page, re.MULTILINE)
    if table is None:
        raise ValueError(f"{RESULTS.name} has no table of static students")
    rows = {}
    for line in table[1].splitlines():
        name, numbers = re.match(r"(\w+(?: \w+)?) {2,}(.*)", line).groups()
        columns = numbers.replace(",", "").split()
        rows[name] = (float(columns[-1]), float(columns[2]))
    if missing := LABELS.keys() - rows.keys():
        raise ValueError(f"{RESULTS.name} has no row {sorted(missing)[0]!r} in the table of static students")
    return {name: rows[name] for name in LABELS}


def figure(rows: dict[str, tuple[float, float]]) -> str:
    """The figure as SVG: a dot for each score, a bar for each speed."""
    height, fastest = TOP + ROW * len(rows) + 34, max(speed for _, speed in rows.values())
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 860 {height}" role="img">',
        f"<title>Mean score on seven similarity tasks, and sentences encoded a second</title><style>{STYLE}</style>",
        f'<text class="title" x="{SCORES_LEFT}" y="22">Similarity, seven tasks</text>',
        f'<text class="small" x="{SCORES_LEFT}" y="42">mean Spearman x 100; higher is better</text>',
        f'<text class="title" x="{SPEEDS_LEFT}" y="22">Speed</text>',
        f'<text class="small" x="{SPEEDS_LEFT}" y="42">sentences a second on two CPU cores</text>',
    ]
    for score in range(LOWEST, HIGHEST + 1, 4):
        x, bottom = score_x(score), TOP + ROW * len(rows) - 8
        parts.append(f'<line class="rule" x1="{x:.1f}" y1="{TOP - 16}" x2="{x:.1f}" y2="{bottom}"/>')
        parts.append(f'<text class="small" x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{score}</text>')
    for number, (name, (score, speed)) in enumerate(rows.items()):
        y, kind = TOP + ROW * number, "ours" if LABELS[name].startswith("sentemb") else "other"
        bar = max(PANEL * speed / fastest, 2)
        parts += [
            f'<text x="0" y="{y + 9}">{LABELS[name]}</text>',
            f'<circle class="{kind}" cx="{score_x(score):.1f}" cy="{y + 4}" r="7"/>',
            f'<text x="{score_x(score) + 12:.1f}" y="{y + 9}">{score:.1f}</text>',
            f'<rect class="{kind}" x="{SPEEDS_LEFT}" y="{y - 5}" width="{bar:.1f}" height="18" rx="2"/>',
            f'<text x="{SPEEDS_LEFT + bar + 8:.1f}" y="{y + 9}">{speed:,.0f}</text>',
        ]
    return "\n".join([*parts, "</svg>", ""])


def score_x(score: float) -> float:
    """The place of a score on its axis, in pixels."""
    return SCORES_LEFT + PANEL * (score - LOWEST) / (HIGHEST - LOWEST)


if __name__ == "__main__":
    FIGURE.write_text(figure(measured(RESULTS.read_text(encoding="utf-8"))), encoding="utf-8")
