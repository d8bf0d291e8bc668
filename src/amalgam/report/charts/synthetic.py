"""How synthetic rows differ from human ones."""

from typing import Any

import altair as alt

from amalgam.report.charts.style import BLUE, GREY, ORANGE, Look, Rows, Spec, encode_looks, finish_chart

_SOURCES = {"Human rows": Look(BLUE, (1, 0), "circle"), "Synthetic rows": Look(ORANGE, (1, 0), "square")}
_DISTANCES = {
    "measured": Look(ORANGE, (1, 0), "square"),
    "limit by chance": Look(GREY, (1, 0), "diamond"),
}
_ROW = 30  # pixels


def draw_drift(rows: Rows) -> Spec:
    """Draw shares (name, human, synthetic), both on one line, so that the gap shows."""
    points = [
        {"name": row["name"], "series": source, "value": row[key]}
        for row in rows
        for source, key in zip(_SOURCES, ("human", "synthetic"), strict=True)
    ]
    return _draw_pairs(points, _SOURCES, "Share or similarity, 0 to 1", domain=[0, 1])


def draw_distances(rows: Rows) -> Spec:
    """Draw the distance between synthetic and human rows (name, mmd2, mmd2_chance), beside what chance would give."""
    points = [
        {"name": row["name"], "series": kind, "value": row[key]}
        for row in rows
        for kind, key in zip(_DISTANCES, ("mmd2", "mmd2_chance"), strict=True)
    ]
    return _draw_pairs(points, _DISTANCES, "Squared MMD of sentence embeddings")


def _draw_pairs(
    points: list[dict[str, Any]], looks: dict[str, Look], title: str, domain: list[int] | None = None
) -> Spec:
    names = list(dict.fromkeys(point["name"] for point in points))
    scale = alt.Scale(domain=domain) if domain else alt.Scale(zero=True)
    base = alt.Chart(alt.InlineData([{**point, "place": names.index(point["name"])} for point in points])).encode(
        x=alt.X("value:Q", title=title, scale=scale),
        y=alt.Y(
            "name:N",
            sort=alt.EncodingSortField("place", op="min"),
            title=None,
            axis=alt.Axis(domain=False, ticks=False, grid=False, labelPadding=8, labelLimit=170),
        ),
    )
    lines = base.mark_line(color=GREY, strokeWidth=1.5).encode(detail="name:N")
    marks = base.mark_point(filled=True, size=80, opacity=1).encode(**encode_looks(looks, points=True))
    return finish_chart(lines + marks, height=_ROW * len(names))
