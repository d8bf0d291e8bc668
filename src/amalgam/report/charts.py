"""Draw the charts once as SVG, so that the page needs no library and prints as it looks.

Colours keep a contrast of 3 to 1 on white and on the page's dark background, and no chart relies on colour alone. Text,
axes and grid get their colours from the page's style sheet. A model looks the same in every chart.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from xml.etree import ElementTree

import altair as alt
import pandas as pd
from markupsafe import Markup

from amalgam.evaluation.predictions import MODEL_NAMES
from amalgam.report.content import Figure, Numbers, Table

Spec = dict[str, Any]
Chart = Any  # of Altair, whose types do not distinguish charts from layers

GREY, BLUE, ORANGE = "#7d8590", "#2f7fc1", "#d55e00"
_WIDTH = 400  # pixels with legend and axes: about a phone's width, so that text stays readable there
_ROW, _GAP = 19, 15  # pixels of one interval, and between names
# Fonts of the same known widths make a chart the same on every machine; the page then shows its own font.
_FONT = "Liberation Sans, Arial, Helvetica, sans-serif"
_UNIT = alt.Scale(domain=[0, 1])


class Look(NamedTuple):
    """What distinguishes a series: its colour, the dashes of its line and the shape of its points."""

    colour: str
    dash: Sequence[int] = (1, 0)
    shape: str = "circle"


Looks = Mapping[str, Look]
Rows = Sequence[Mapping[str, Any]]


MODEL_LOOKS = {
    MODEL_NAMES[model]: look
    for model, look in {
        "teacher": Look(BLUE),
        "student": Look(ORANGE, (8, 3), "square"),
        "student_int8": Look("#d1477f", (8, 3, 2, 3), "triangle-up"),
        "student_undistilled": Look("#a8820f", (2, 3), "triangle-down"),
        "human_only": Look("#129a7d", (5, 3), "diamond"),
        "embedding_lr": Look("#9a63c4", (2, 2), "cross"),
        "tfidf_lr": Look("#6b7a12", (1, 3), "triangle-right"),
        "llm_grader": Look(GREY, (4, 4), "triangle-left"),
    }.items()
}
_LOSSES = {"validation_loss": "Validation rows", "loss": "Training rows"}
_LOSS_LOOKS = {"Validation rows": Look(BLUE), "Training rows": Look(ORANGE, (7, 3), "square")}


def draw_roc(rows: pd.DataFrame) -> Spec:
    """Draw the ROC curves (model, fpr, tpr) of all models for one label."""
    x = alt.X("fpr:Q", title="False positive rate", scale=_UNIT)
    y = alt.Y("tpr:Q", title="True positive rate", scale=_UNIT)
    return _finish(_draw_diagonal([0, 1]) + _draw_dashed(*_name_models(rows)).encode(x=x, y=y), 300)


def draw_calibration(rows: pd.DataFrame) -> Spec:
    """Draw accuracy against confidence (model, confidence, share), one point per bin of confidence."""
    domain = [int(rows["confidence"].min() * 10) / 10, 1]
    x = alt.X("confidence:Q", title="Mean probability of the predicted label", scale=alt.Scale(domain=domain))
    y = alt.Y("share:Q", title="Share of correct predictions", scale=_UNIT)
    data, looks = _name_models(rows)
    base = _chart(data).encode(x=x, y=y)
    lines = base.mark_line(strokeWidth=1.5, opacity=0.7).encode(**_tell_apart(looks))
    points = base.mark_point(filled=True, size=60, opacity=1).encode(**_tell_apart(looks, points=True))
    return _finish(_draw_diagonal(domain) + (lines + points), 300)


def draw_training(rows: pd.DataFrame) -> Spec:
    """Draw the losses of one model (seed, step, loss, validation_loss; NaN where there is none), one line per seed."""
    data = rows.rename(columns=_LOSSES).melt(["seed", "step"], list(_LOSSES.values()), "series", "loss").dropna()
    x = alt.X("step:Q", title="Optimizer step", scale=alt.Scale(zero=True))
    y = alt.Y("loss:Q", title="Loss", scale=alt.Scale(zero=True))
    return _finish(_draw_dashed(data, _LOSS_LOOKS).encode(x=x, y=y, detail="seed:N"), 220)


def draw_points(
    rows: Rows, axis: str, looks: Looks | None = None, *, signed: bool = False, joined: bool = False, unit: bool = False
) -> Spec:
    """Draw a point (value) for each row (name, series) on a line from `low` to `high`, over an axis titled `axis`.

    Without `looks`, series are models. Points of one name are drawn below each other, or on one line if `joined`.
    If `signed`, values are differences and get a line at zero; with `unit`, the axis runs from 0 to 1.
    """
    looks = looks or _find_looks(row["series"] for row in rows)
    names = [row["name"] for row in rows]
    places = {name: number for number, name in enumerate(dict.fromkeys(names))}
    beside = 1 if joined else max(names.count(name) for name in places)
    labels = alt.Axis(
        domain=False, ticks=False, grid=False, labelPadding=8, labelLimit=170, labelExpr="split(datum.label, '\\n')"
    )
    y = alt.Y("name:N", sort=alt.EncodingSortField("place", op="min"), title=None, axis=labels)
    base = _chart([{**row, "place": places[row["name"]]} for row in rows]).encode(y=y)
    if beside > 1:
        order = list(looks)
        base = base.encode(yOffset=alt.YOffset("series:N", sort=order, scale=alt.Scale(domain=order, paddingOuter=0.7)))
    ticks = alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.2f')") if signed else alt.Axis()
    scale = _UNIT if unit else alt.Scale(zero=signed or joined, nice=True)
    bars = base.encode(x=alt.X("low:Q", title=axis, axis=ticks, scale=scale), x2="high:Q")
    legend = any(row["name"] != row["series"] for row in rows)
    coloured = bars.mark_rule(strokeWidth=2.5).encode(**_tell_apart(looks, legend=legend))
    shapes = _tell_apart(looks, points=True, legend=legend)
    chart: Chart = bars.mark_rule(color=GREY, strokeWidth=1.5) if joined else coloured
    chart += base.mark_point(filled=True, size=75, opacity=1).encode(x="value:Q", **shapes)
    if signed:
        chart = _chart([{"zero": 0}]).mark_rule(color=GREY, strokeWidth=1.5).encode(x="zero:Q") + chart
    lines = max(name.count("\n") + 1 for name in places)
    return _finish(chart, len(places) * max(beside * _ROW + _GAP, lines * 17 + 6))


def build_figure(key: str, title: str, caption: str, spec: Spec, numbers: Table | None = None) -> Figure:
    """Draw a chart as an SVG element with a name (title) and a description (caption) for a screen reader.

    The key is unique on the page. Only what draws is copied from the drawing, and nothing is fetched.
    """
    import vl_convert

    drawn = ElementTree.fromstring(vl_convert.vegalite_to_svg(spec, vl_version="6.4", allowed_base_urls=[]))
    _strip(drawn)
    inner = "".join(ElementTree.tostring(child, encoding="unicode", short_empty_elements=False) for child in drawn)
    where = "Its numbers are in the table below it." if numbers else "Its numbers are in a table on this page."
    svg = Markup(
        '<svg role="img" viewBox="{view}" aria-labelledby="{key}-title" aria-describedby="{key}-text">'
        '<title id="{key}-title">{title}</title><desc id="{key}-text">{caption} {where}</desc>{inner}</svg>'
    ).format(view=drawn.attrib["viewBox"], key=key, title=title, caption=caption, where=where, inner=Markup(inner))
    return Figure(caption, svg, numbers)


def place_point(name: str, series: str, values: Numbers, metric: str = "auc") -> dict[str, Any]:
    """Return the point of a metric and its interval, for `draw_points`."""
    ends = {"value": values[metric], "low": values[f"{metric}_low"], "high": values[f"{metric}_high"]}
    return {"name": name, "series": series, **ends}


def _chart(rows: pd.DataFrame | Rows) -> alt.Chart:
    values: Any = rows.to_dict("records") if isinstance(rows, pd.DataFrame) else rows
    return alt.Chart(alt.InlineData(values))


def _find_looks(names: Iterable[str]) -> Looks:
    found = set(names)
    return {name: look for name, look in MODEL_LOOKS.items() if name in found}


def _name_models(rows: pd.DataFrame) -> tuple[pd.DataFrame, Looks]:
    data = rows.assign(series=rows["model"].map(MODEL_NAMES))
    return data, _find_looks(data["series"])


def _tell_apart(looks: Looks, *, dashes: bool = False, points: bool = False, legend: bool = True) -> dict[str, Any]:
    """Return the channels that distinguish series; a single series needs no legend, nor do rows already named."""
    shown = {"title": None, "orient": "bottom", "columns": 2, "symbolOpacity": 1, "symbolStrokeWidth": 2}
    shown |= {"labelLimit": 165} | ({"symbolSize": 600} if dashes else {})  # long enough to show the dashes
    colours, lines, shapes = zip(*looks.values(), strict=True)
    ranges = {"color": colours} | ({"strokeDash": lines} if dashes else {}) | ({"shape": shapes} if points else {})
    base = {"field": "series", "type": "nominal", "legend": shown if legend and len(looks) > 1 else None}
    return {name: base | {"scale": {"domain": list(looks), "range": list(of)}} for name, of in ranges.items()}


def _draw_dashed(data: pd.DataFrame, looks: Looks) -> Chart:
    chart = _chart(data.assign(order=range(len(data)))).mark_line(strokeWidth=2)
    return chart.encode(order="order:Q", **_tell_apart(looks, dashes=True))


def _draw_diagonal(ends: Sequence[float]) -> Chart:
    line = _chart([{"x": end, "y": end} for end in ends]).mark_line(color=GREY, strokeWidth=1, strokeDash=[2, 3])
    return line.encode(x="x:Q", y="y:Q")


def _finish(chart: Chart, height: float) -> Spec:
    """Set a chart's size (`height` is that of its inner part, in pixels) and its plain look."""
    size = alt.AutoSizeParams(type="fit-x", contains="padding")
    axis = {"labelFontSize": 13, "titleFontSize": 13, "titleFontWeight": "normal", "titlePadding": 8, "tickCount": 5}
    sized = chart.properties(width=_WIDTH, height=height, background="transparent", autosize=size)
    plain = sized.configure(font=_FONT, padding=4, aria=False).configure_view(stroke=None)
    plain = plain.configure_axis(**axis, labelFlush=False)
    spec: Spec = plain.configure_legend(labelFontSize=13, rowPadding=5, columnPadding=12, offset=12).to_dict()
    return spec


_ELEMENTS = {"g", "path", "line", "rect", "circle", "text", "tspan"}
_ATTRIBUTES = {
    *("class", "d", "dx", "dy", "x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "width", "height", "transform"),
    *("fill", "stroke", "stroke-width", "stroke-dasharray", "stroke-miterlimit", "stroke-opacity", "fill-opacity"),
    *("opacity", "text-anchor", "font-size"),
}


def _strip(element: ElementTree.Element) -> None:
    """Keep only those children of an element that draw; Vega puts invisible paths before and after groups."""
    for child in list(element):
        child.tag = child.tag.removeprefix("{http://www.w3.org/2000/svg}")
        if child.tag not in _ELEMENTS or child.get("class") in ("background", "foreground"):
            element.remove(child)
        child.attrib = {
            name: re.sub(r"-?\d+\.\d{2,}(e-?\d+)?", lambda found: f"{float(found[0]):.1f}".removesuffix(".0"), value)
            for name, value in child.attrib.items()
            if name in _ATTRIBUTES
        }
        _strip(child)
