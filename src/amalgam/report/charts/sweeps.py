"""AUC against one param: the learning curve, the ratio curve and their like."""

import altair as alt

from amalgam.report.charts.style import Rows, Spec, encode_looks, finish_chart, name_series


def draw_sweep(rows: Rows, title: str) -> Spec:
    """Draw a line a model through points (model, x, auc, auc_low, auc_high) with their intervals."""
    data, looks = name_series(rows)
    values = sorted({row["x"] for row in data})
    # Models stand a little beside each other, else their intervals would hide each other.
    step = (values[-1] - values[0]) / 60
    places = {name: (number - (len(looks) - 1) / 2) * step for number, name in enumerate(looks)}
    data = [{**row, "place": row["x"] + places[row["series"]]} for row in data]
    channels = encode_looks(looks, points=True)
    shape = channels.pop("shape")
    base = alt.Chart(alt.InlineData(data)).encode(
        x=alt.X(
            "place:Q", title=title, scale=alt.Scale(zero=False, nice=False, padding=12), axis=alt.Axis(values=values)
        ),
        **channels,
    )
    lines = base.mark_line(strokeWidth=1.5, opacity=0.7).encode(y="auc:Q")
    bars = base.mark_rule(strokeWidth=1.5).encode(
        y=alt.Y("auc_low:Q", title="AUC", scale=alt.Scale(zero=False)), y2="auc_high:Q"
    )
    points = base.mark_point(filled=True, size=60, opacity=1).encode(y="auc:Q", shape=shape)
    return finish_chart(bars + lines + points, height=240)
