"""Training curves."""

import altair as alt

from amalgam.report.charts.style import BLUE, ORANGE, Look, Rows, Spec, encode_looks, finish_chart

_KINDS = {"validation_loss": "Validation rows", "loss": "Training rows"}
_LOOKS = {"Validation rows": Look(BLUE, (1, 0), "circle"), "Training rows": Look(ORANGE, (7, 3), "square")}


def draw_training(rows: Rows) -> Spec:
    """Draw the losses of one model (seed, step, loss, validation_loss; NaN where there is none), a line a seed."""
    data = [
        {"seed": f"{row['seed']}", "step": row["step"], "series": name, "loss": row[column]}
        for row in rows
        for column, name in _KINDS.items()
        if row[column] == row[column]
    ]
    chart = (
        alt.Chart(alt.InlineData(data))
        .mark_line(strokeWidth=1.75)
        .encode(
            x=alt.X("step:Q", title="Optimizer step", scale=alt.Scale(zero=True)),
            y=alt.Y("loss:Q", title="Loss", scale=alt.Scale(zero=True)),
            detail="seed:N",
            **encode_looks(_LOOKS, line=True),
        )
    )
    return finish_chart(chart, height=220)
