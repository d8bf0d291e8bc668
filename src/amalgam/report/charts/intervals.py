"""Values with their intervals, a row a name: models, paired differences, subgroups."""

from collections.abc import Mapping

import altair as alt

from amalgam.report.charts.style import BLUE, GREY, Look, Rows, Spec, encode_looks, finish_chart

CLEAR, UNCLEAR = "interval excludes 0", "interval includes 0"
DIFFERENCE_LOOKS = {CLEAR: Look(BLUE, (1, 0), "circle"), UNCLEAR: Look(GREY, (1, 0), "diamond")}
_ROW = 19  # pixels of one interval
_GAP = 15  # pixels between names


def draw_intervals(
    rows: Rows, looks: Mapping[str, Look], title: str, *, signed: bool = False, legend: bool = True
) -> Spec:
    """Draw a point and its interval for each row (name, series, value, low, high).

    Several series of one name stand below each other. A name may hold line breaks. Signed values are differences,
    and get a line at zero.
    """
    names = list(dict.fromkeys(row["name"] for row in rows))
    beside = max([row["name"] for row in rows].count(name) for name in names)
    axis = alt.Axis(labelExpr="datum.value == 0 ? '0' : format(datum.value, '+.2f')") if signed else alt.Axis()
    channels = encode_looks(looks, points=True, legend=legend)
    shape = channels.pop("shape")  # of the points alone: a rule would draw one at its end
    data = [{**row, "place": names.index(row["name"])} for row in rows]
    base = alt.Chart(alt.InlineData(data)).encode(
        y=alt.Y(
            "name:N",
            sort=alt.EncodingSortField("place", op="min"),
            title=None,
            axis=alt.Axis(
                domain=False,
                ticks=False,
                grid=False,
                labelPadding=8,
                labelLimit=150,
                labelExpr="split(datum.label, '\\n')",
            ),
        ),
        **channels,
    )
    if beside > 1:
        series = list(looks)
        base = base.encode(
            yOffset=alt.YOffset("series:N", sort=series, scale=alt.Scale(domain=series, paddingOuter=0.7))
        )
    scale = alt.Scale(zero=signed, nice=True)
    bars = base.mark_rule(strokeWidth=2.5).encode(x=alt.X("low:Q", title=title, axis=axis, scale=scale), x2="high:Q")
    points = base.mark_point(filled=True, size=75, opacity=1).encode(x="value:Q", shape=shape)
    chart = bars + points
    if signed:
        zero = alt.Chart(alt.InlineData([{"zero": 0}])).mark_rule(color=GREY, strokeWidth=1.5).encode(x="zero:Q")
        chart = zero + chart
    lines = max(name.count("\n") + 1 for name in names)
    return finish_chart(chart, height=len(names) * max(beside * _ROW + _GAP, lines * 17 + 6))
