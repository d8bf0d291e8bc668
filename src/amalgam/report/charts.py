"""The charts of the report, as Vega-Lite specifications.

Colours keep a contrast of 3 to 1 on white and on the dark background, and no chart relies on colour alone. Text,
axes and grid get their colours from the page's style sheet, so that they follow the theme of the reader.
"""

from collections.abc import Sequence
from typing import Any

import altair as alt

from amalgam.report.phrases import METRIC_NAMES, MODEL_NAMES, Numbers, format_difference, format_interval

Rows = Sequence[dict[str, Any]]
Spec = dict[str, Any]

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', sans-serif"
_COLOURS = ("#2f7fc1", "#d55e00", "#129a7d", "#9a63c4", "#a8820f", "#7d8590")
_DASHES = ([1, 0], [8, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 3])
_SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down")
_GREY = "#7d8590"
_LINE = 700  # square pixels of a line's symbol in a legend: long enough to show its dashes
_COMPARISONS = {
    "gain_over_human_only": "Teacher minus human-only teacher",
    "gain_over_best_baseline": "Teacher minus best baseline",
    "student_minus_teacher": "Student minus teacher",
}


def draw_gains(comparisons: Numbers) -> Spec:
    """Draw the paired differences with their intervals, a row a metric."""
    rows = [
        {
            "comparison": name,
            "metric": METRIC_NAMES[metric],
            "value": comparisons[key][metric],
            "low": comparisons[key][f"{metric}_low"],
            "high": comparisons[key][f"{metric}_high"],
            "text": f"{format_difference(comparisons[key][metric])} "
            f"({format_interval(comparisons[key], metric, signed=True)})",
        }
        for key, name in _COMPARISONS.items()
        for metric in METRIC_NAMES
        if f"{metric}_low" in comparisons[key]
    ]
    names = list(_COMPARISONS.values())
    legend = _make_legend(columns=1)
    axis = alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.2f')")
    base = alt.Chart(alt.InlineData(rows)).encode(
        y=alt.Y(
            "metric:N", sort=None, title=None, axis=alt.Axis(domain=False, ticks=False, grid=False, labelPadding=8)
        ),
        yOffset=alt.YOffset("comparison:N", sort=names, scale=alt.Scale(domain=names, paddingOuter=0.8)),
        color=_colour("comparison", names, legend),
        tooltip=[
            alt.Tooltip("comparison:N", title="Comparison"),
            alt.Tooltip("metric:N", title="Metric"),
            alt.Tooltip("text:N", title="Difference"),
        ],
    )
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title="Difference", axis=axis), x2="high:Q")
    points = base.mark_point(filled=True, size=70, opacity=1).encode(
        x="value:Q", shape=_shape("comparison", names, legend)
    )
    zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(color=_GREY, strokeWidth=1.5).encode(x="zero:Q")
    return _finish(zero + bars + points, "Paired differences of models with intervals", height=20 * len(rows))


def draw_roc(rows: Rows, label: str) -> Spec:
    """Draw the ROC curves (model, fpr, tpr) of all models for one label."""
    data, names = _name_models(rows)
    legend = _make_legend(symbolSize=_LINE)
    lines = (
        alt.Chart(alt.InlineData(data))
        .mark_line(strokeWidth=2, interpolate="linear")
        .encode(
            x=alt.X("fpr:Q", title="False positive rate", scale=alt.Scale(domain=[0, 1])),
            y=alt.Y("tpr:Q", title="True positive rate", scale=alt.Scale(domain=[0, 1])),
            color=_colour("model", names, legend),
            strokeDash=_dash("model", names, legend),
            order="step:Q",
        )
    )
    return _finish(_diagonal([0, 1]) + lines, f"ROC curves for the label {label}", height=320)


def draw_calibration(rows: Rows) -> Spec:
    """Draw accuracy against confidence (model, confidence, share, rows), a point a bin of the top probability."""
    data, names = _name_models(rows)
    least = min((row["confidence"] for row in data), default=0.0)
    domain = [int(least * 10) / 10, 1]
    legend = _make_legend()
    base = alt.Chart(alt.InlineData(data)).encode(
        x=alt.X("confidence:Q", title="Mean probability of the predicted label", scale=alt.Scale(domain=domain)),
        y=alt.Y("share:Q", title="Share of right predictions", scale=alt.Scale(domain=[0, 1])),
        color=_colour("model", names, legend),
        tooltip=[
            alt.Tooltip("model:N", title="Model"),
            alt.Tooltip("confidence:Q", title="Mean probability", format=".3f"),
            alt.Tooltip("share:Q", title="Share right", format=".3f"),
            alt.Tooltip("rows:Q", title="Predictions"),
        ],
    )
    lines = base.mark_line(strokeWidth=1.5, opacity=0.7).encode(strokeDash=_dash("model", names, legend))
    points = base.mark_point(filled=True, size=60, opacity=1).encode(shape=_shape("model", names, legend))
    return _finish(_diagonal(domain) + lines + points, "Calibration of all models", height=320)


def draw_training(rows: Rows, model: str) -> Spec:
    """Draw the losses of one model (seed, step, loss, validation_loss), a line a seed."""
    kinds = {"loss": "Training", "validation_loss": "Validation"}
    data = [
        {"seed": f"{row['seed']}", "step": row["step"], "kind": kind, "loss": row[column]}
        for row in rows
        for column, kind in kinds.items()
        if row["model"] == model and row[column] == row[column]
    ]
    names = list(kinds.values())[::-1]
    legend = _make_legend(symbolSize=_LINE)
    chart = (
        alt.Chart(alt.InlineData(data))
        .mark_line(strokeWidth=1.75)
        .encode(
            x=alt.X("step:Q", title="Optimizer step", scale=alt.Scale(zero=True)),
            y=alt.Y("loss:Q", title="Loss", scale=alt.Scale(zero=True)),
            color=_colour("kind", names, legend),
            strokeDash=_dash("kind", names, legend),
            detail="seed:N",
            tooltip=[
                alt.Tooltip("seed:N", title="Seed"),
                alt.Tooltip("step:Q", title="Step"),
                alt.Tooltip("kind:N", title="Rows"),
                alt.Tooltip("loss:Q", title="Loss", format=".4f"),
            ],
        )
    )
    return _finish(chart, f"Training curves of the {model}", height=240)


def _name_models(rows: Rows) -> tuple[list[dict[str, Any]], list[str]]:
    data = [{**row, "model": MODEL_NAMES[row["model"]], "step": number} for number, row in enumerate(rows)]
    found = {row["model"] for row in data}
    return data, [name for name in MODEL_NAMES.values() if name in found]


def _diagonal(domain: list[float]) -> alt.Chart:
    ends = alt.Chart(alt.InlineData([{"x": end, "y": end} for end in domain]))
    line: alt.Chart = ends.mark_line(color=_GREY, strokeWidth=1, strokeDash=[3, 3]).encode(x="x:Q", y="y:Q")
    return line


def _make_legend(**options: Any) -> alt.Legend:
    # The channels of one chart have to share all options, else there is a legend for each.
    return alt.Legend(
        **{"title": None, "orient": "bottom", "columns": 2, "symbolOpacity": 1, "labelLimit": 260} | options
    )


def _colour(field: str, names: list[str], legend: alt.Legend) -> alt.Color:
    return alt.Color(f"{field}:N", legend=legend, scale=alt.Scale(domain=names, range=list(_COLOURS[: len(names)])))


def _dash(field: str, names: list[str], legend: alt.Legend) -> alt.StrokeDash:
    scale = alt.Scale(domain=names, range=[list(dash) for dash in _DASHES[: len(names)]])
    return alt.StrokeDash(f"{field}:N", legend=legend, scale=scale)


def _shape(field: str, names: list[str], legend: alt.Legend) -> alt.Shape:
    scale = alt.Scale(domain=names, range=list(_SHAPES[: len(names)]))
    return alt.Shape(f"{field}:N", legend=legend, scale=scale)


def _finish(chart: alt.Chart | alt.LayerChart, description: str, *, height: int) -> Spec:
    spec: Spec = (
        chart.properties(width="container", height=height, description=description, background="transparent")
        .configure(font=FONT)
        .configure_view(stroke=None)
        .configure_axis(
            labelFontSize=12, titleFontSize=12, titleFontWeight="normal", titlePadding=8, tickCount=5, labelFlush=False
        )
        .configure_legend(labelFontSize=12, rowPadding=4, columnPadding=16)
        .to_dict()
    )
    return spec
