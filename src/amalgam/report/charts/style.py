"""What all charts look like.

Colours keep a contrast of 3 to 1 on white and on the page's dark background, and no chart relies on colour alone. Text,
axes and grid get their colours from the page's style sheet, so that they follow the theme of the reader. A model looks
the same in every chart.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from amalgam.report.phrases import MODEL_NAMES

Rows = Sequence[Mapping[str, Any]]
Spec = dict[str, Any]

# Pixels with legend and axes: about a phone's width, so that text stays readable there.
WIDTH = 400
GREY = "#7d8590"
BLUE = "#2f7fc1"
ORANGE = "#d55e00"
# Of known widths on every machine, so that a chart is the same everywhere; the page then shows its own font.
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_LINE = 600  # square pixels of a line's symbol in a legend: long enough to show its dashes


@dataclass(frozen=True, slots=True)
class Look:
    """How a series is told apart: by colour, dashes of its line and shape of its points."""

    colour: str
    dash: tuple[int, int] | tuple[int, int, int, int]
    shape: str


MODEL_LOOKS = {
    MODEL_NAMES[model]: look
    for model, look in {
        "teacher": Look(BLUE, (1, 0), "circle"),
        "student": Look(ORANGE, (8, 3), "square"),
        "student_int8": Look("#d1477f", (8, 3, 2, 3), "triangle-up"),
        "student_undistilled": Look("#a8820f", (2, 3), "triangle-down"),
        "human_only": Look("#129a7d", (5, 3), "diamond"),
        "embedding_lr": Look("#9a63c4", (2, 2), "cross"),
        "tfidf_lr": Look("#6b7a12", (1, 3), "triangle-right"),
        "llm_grader": Look(GREY, (4, 4), "triangle-left"),
    }.items()
}


def encode_looks(
    looks: Mapping[str, Look], *, line: bool = False, points: bool = False, legend: bool = True
) -> dict[str, Any]:
    """Return the channels that tell the series of the field `series` apart.

    One series needs no legend, nor do rows that are named already. The channels share all legend options, else there
    would be a legend for each.
    """
    names = list(looks)
    shown = (
        alt.Legend(
            title=None,
            orient="bottom",
            columns=2,
            symbolOpacity=1,
            symbolStrokeWidth=2,
            labelLimit=165,
            symbolSize=_LINE if line else alt.Undefined,
        )
        if legend and len(names) > 1
        else None
    )
    channels: dict[str, Any] = {
        "color": alt.Color(
            "series:N", legend=shown, scale=alt.Scale(domain=names, range=[look.colour for look in looks.values()])
        )
    }
    if line:
        dashes = [list(look.dash) for look in looks.values()]
        channels["strokeDash"] = alt.StrokeDash("series:N", legend=shown, scale=alt.Scale(domain=names, range=dashes))
    if points:
        shapes = [look.shape for look in looks.values()]
        channels["shape"] = alt.Shape("series:N", legend=shown, scale=alt.Scale(domain=names, range=shapes))
    return channels


def name_series(rows: Rows) -> tuple[list[dict[str, Any]], dict[str, Look]]:
    """Return rows with their model's name in `series` and their place in `order`, and the looks of these models."""
    data = [{**row, "series": MODEL_NAMES[row["model"]], "order": number} for number, row in enumerate(rows)]
    found = {row["series"] for row in data}
    return data, {name: look for name, look in MODEL_LOOKS.items() if name in found}


def draw_diagonal(domain: Sequence[float]) -> alt.Chart:
    """Draw the dotted line from corner to corner."""
    ends = alt.Chart(alt.InlineData([{"x": end, "y": end} for end in domain]))
    line: alt.Chart = ends.mark_line(color=GREY, strokeWidth=1, strokeDash=[2, 3]).encode(x="x:Q", y="y:Q")
    return line


def finish_chart(chart: alt.Chart | alt.LayerChart, *, height: float) -> Spec:
    """Give a chart its size (the height, in pixels, is that of its inner part) and its plain look."""
    spec: Spec = (
        chart.properties(
            width=WIDTH,
            height=height,
            background="transparent",
            autosize=alt.AutoSizeParams(type="fit-x", contains="padding"),
        )
        .configure(font=_FONT, padding=4, aria=False)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=13, titleFontSize=13, titleFontWeight="normal", titlePadding=8, tickCount=5, labelFlush=False
        )
        .configure_legend(labelFontSize=13, rowPadding=5, columnPadding=12, offset=12)
        .to_dict()
    )
    return spec
