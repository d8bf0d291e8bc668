"""ROC, calibration and training curves."""

from typing import Any

from amalgam.report.charts.curves import LEAST, draw_calibration, draw_roc
from amalgam.report.charts.training import draw_training
from amalgam.report.content import Content
from amalgam.report.figures import Figure, build_figure
from amalgam.report.phrases import MODEL_NAMES
from amalgam.report.tables.curves import tabulate_calibration, tabulate_roc, tabulate_training


def build_curves(content: Content) -> dict[str, Any] | None:
    """Collect the curves of which the run has points."""
    figures = [*_draw_rocs(content), *_draw_calibrations(content), *_draw_trainings(content)]
    return {"figures": figures} if figures else None


def _draw_rocs(content: Content) -> list[Figure]:
    figures = []
    for number, label in enumerate(content.labels):
        rows = [row for row in content.plots.get("roc", ()) if row["label"] == label]
        if rows:
            caption = f"ROC for “{label}”, mean over seeds. The dotted line is guessing."
            title = f"ROC curves for the label {label}"
            figures.append(build_figure(f"roc-{number}", title, caption, draw_roc(rows), tabulate_roc(rows)))
    return figures


def _draw_calibrations(content: Content) -> list[Figure]:
    rows = content.plots.get("calibration", ())
    if all(row["rows"] < LEAST for row in rows):
        return []
    caption = (
        "Calibration: how often a prediction of that confidence is right. "
        f"On the dotted line, confidence is what it claims to be. Bins of fewer than {LEAST} predictions are not drawn."
    )
    return [
        build_figure(
            "calibration", "Calibration of all models", caption, draw_calibration(rows), tabulate_calibration(rows)
        )
    ]


def _draw_trainings(content: Content) -> list[Figure]:
    figures = []
    for model, name in MODEL_NAMES.items():
        rows = [row for row in content.plots.get("training", ()) if row["model"] == model]
        if rows:
            name = name.lower()
            caption = f"Training of the {name}: loss on training and validation rows, a line a seed."
            title = f"Training curves of the {name}"
            figures.append(
                build_figure(f"training-{model}", title, caption, draw_training(rows), tabulate_training(rows))
            )
    return figures
