"""Curves over the test rows: ROC and calibration."""

import altair as alt

from amalgam.report.charts.style import Rows, Spec, draw_diagonal, encode_looks, finish_chart, name_series

LEAST = 10  # predictions of a bin of the calibration chart


def draw_roc(rows: Rows) -> Spec:
    """Draw the ROC curves (model, fpr, tpr) of all models for one label."""
    data, looks = name_series(rows)
    unit = alt.Scale(domain=[0, 1])
    lines = (
        alt.Chart(alt.InlineData(data))
        .mark_line(strokeWidth=2, interpolate="linear")
        .encode(
            x=alt.X("fpr:Q", title="False positive rate", scale=unit),
            y=alt.Y("tpr:Q", title="True positive rate", scale=unit),
            order="order:Q",
            **encode_looks(looks, line=True),
        )
    )
    return finish_chart(draw_diagonal([0, 1]) + lines, height=300)


def draw_calibration(rows: Rows) -> Spec:
    """Draw accuracy against confidence (model, confidence, share, rows), a point a bin of the top probability.

    Bins of fewer than `LEAST` predictions are left out: their share is mostly chance.
    """
    data, looks = name_series([row for row in rows if row["rows"] >= LEAST])
    least = min((row["confidence"] for row in data), default=0.0)
    domain = [int(least * 10) / 10, 1]
    channels = encode_looks(looks, points=True)
    shape = channels.pop("shape")
    base = alt.Chart(alt.InlineData(data)).encode(
        x=alt.X("confidence:Q", title="Mean probability of the predicted label", scale=alt.Scale(domain=domain)),
        y=alt.Y("share:Q", title="Share of right predictions", scale=alt.Scale(domain=[0, 1])),
        **channels,
    )
    lines = base.mark_line(strokeWidth=1.5, opacity=0.7)
    points = base.mark_point(filled=True, size=60, opacity=1).encode(shape=shape)
    return finish_chart(draw_diagonal(domain) + lines + points, height=300)
