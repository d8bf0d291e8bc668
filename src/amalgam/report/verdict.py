"""The verdict: did the synthetic rows help, and what does the student keep? The template has its sentences."""

from typing import Any

from amalgam.report.charts import BLUE, GREY, Look, build_figure, draw_points, place_point
from amalgam.report.content import Content, Figure, tabulate_estimates
from amalgam.report.phrases import METRIC_NAMES, MODEL_NAMES

# What the chart calls each difference of metrics/comparisons.json.
_DIFFERENCES = {
    "gain_over_human_only": "Teacher minus\nhuman-only teacher",
    "gain_over_best_baseline": "Teacher minus\nbest baseline",
    "student_minus_teacher": "Student minus\nteacher",
    "student_minus_undistilled": "Student minus\nundistilled student",
    "int8_minus_student": "Student, int8,\nminus student",
}
_LOOKS = {"interval excludes 0": Look(BLUE), "interval includes 0": Look(GREY, shape="diamond")}


def build_verdict(content: Content) -> dict[str, Any]:
    """Decide every comparison, and draw the models and their differences.

    The first model of a comparison is `better` or `worse` only where the whole interval of the AUC difference lies on
    one side of zero.
    """
    comparisons = content.metrics["comparisons"]
    found = {key: comparisons[key] for key in _DIFFERENCES if key in comparisons}
    outcomes = {
        key: "better" if values["auc_low"] > 0 else "worse" if values["auc_high"] < 0 else "unclear"
        for key, values in found.items()
    }
    clear, unclear = _LOOKS
    points = [
        place_point(_DIFFERENCES[key], unclear if outcomes[key] == "unclear" else clear, values)
        for key, values in found.items()
    ]
    caption = (
        f"Paired differences in AUC on the same rows and seeds, with {content.confidence} intervals. "
        "Right of zero, the model named first is better."
    )
    spec = draw_points(points, "Difference in AUC", _LOOKS, signed=True)
    named = [([_DIFFERENCES[key].replace("\n", " ")], values) for key, values in found.items()]
    numbers = tabulate_estimates("Paired differences", ["Models"], named, METRIC_NAMES, signed=True)
    figure = build_figure("differences", "Paired differences in AUC", caption, spec, numbers)
    return {"outcomes": outcomes, "figures": [_draw_models(content), figure]}


def _draw_models(content: Content) -> Figure:
    models = content.metrics["models"]
    found = {name: models[model] for model, name in MODEL_NAMES.items() if "auc_low" in models.get(model, {})}
    points = [place_point(name, name, values) for name, values in found.items()]
    spec = draw_points(points, "AUC on the test rows")
    return build_figure("auc", "AUC of all models", f"AUC of each model with its {content.confidence} interval.", spec)
