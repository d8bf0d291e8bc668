"""Did the synthetic rows help, and what does the student keep?"""

from typing import Any

from amalgam.report.charts.intervals import CLEAR, DIFFERENCE_LOOKS, UNCLEAR, draw_intervals
from amalgam.report.charts.style import MODEL_LOOKS
from amalgam.report.content import Content
from amalgam.report.figures import Figure, build_figure
from amalgam.report.phrases import (
    MODEL_NAMES,
    format_count,
    format_difference,
    format_interval,
    format_number,
    format_share,
)
from amalgam.report.tables.models import tabulate_differences
from amalgam.report.verdict import phrase_claims, phrase_guard, phrase_verdict

COMPARISONS = {
    "gain_over_human_only": "Teacher minus\nhuman-only teacher",
    "gain_over_best_baseline": "Teacher minus\nbest baseline",
    "student_minus_teacher": "Student minus\nteacher",
    "student_minus_undistilled": "Student minus\nundistilled student",
    "int8_minus_student": "Student, int8,\nminus student",
}


def build_verdict(content: Content) -> dict[str, Any]:
    """Collect the verdict, the claims beside it, the key figures and two charts."""
    guard = content.training.get("guard")
    return {
        "lead": phrase_verdict(content),
        "claims": [*([phrase_guard(guard)] if guard else []), *phrase_claims(content)],
        "facts": list_facts(content),
        "figures": [_draw_models(content), _draw_differences(content)],
    }


def list_facts(content: Content) -> list[tuple[str, str, str]]:
    """List the key figures, those of metrics/summary.json: name, value, and what stands below it."""
    student, gain = content.summary["student"], content.summary["gain"]
    difference, ends = format_difference(gain["over_human_only"]), format_interval(gain, "over_human_only", signed=True)
    facts = [
        ("Student's AUC", format_number(student["auc"]), format_interval(student, "auc")),
        ("Gain over human-only", difference, ends),
    ]
    if "retention" in student:
        interval, retention = "", content.comparisons["retention"]
        if "auc_above_chance_low" in retention:
            low, high = (format_share(retention[f"auc_above_chance_{end}"]) for end in ("low", "high"))
            interval = f"{low} to {high}"
        facts.append(("Retention, AUC above chance", format_share(student["retention"]), interval))
    size = f"{student['megabytes']:g} megabytes, {student['bits']} bits a weight"
    facts.append(("Student: rows a second", f"{student['rows_per_second']:g}", size))
    if "agreement" in student:
        below = f"agreement {format_share(student['agreement'])}"
        facts.append(("Rows that need no human", format_share(student["coverage"]), below))
    if spent := content.cost.get("llm"):
        price = f"{content.summary['llm']['usd']:.2f}" if "usd" in content.summary["llm"] else "unknown"
        tokens = format_count(spent["prompt_tokens"] + spent["completion_tokens"])
        facts.append(("LLM, US dollars", price, f"{tokens} tokens"))
    return facts


def _draw_models(content: Content) -> Figure:
    rows = [
        {"name": name, "series": name, "value": values["auc"], "low": values["auc_low"], "high": values["auc_high"]}
        for model, name in MODEL_NAMES.items()
        if "auc_low" in (values := content.models.get(model, {}))
    ]
    looks = {row["name"]: MODEL_LOOKS[row["name"]] for row in rows}
    spec = draw_intervals(rows, looks, "AUC on the test rows", legend=False)
    caption = f"AUC of each model with its {_confidence(content)} interval."
    return build_figure("auc", "AUC of all models", caption, spec)


def _draw_differences(content: Content) -> Figure:
    found = {key: name for key, name in COMPARISONS.items() if key in content.comparisons}
    rows = [
        {
            "name": name,
            "series": CLEAR if values["auc_low"] > 0 or values["auc_high"] < 0 else UNCLEAR,
            "value": values["auc"],
            "low": values["auc_low"],
            "high": values["auc_high"],
        }
        for key, name in found.items()
        for values in [content.comparisons[key]]
    ]
    names = {key: name.replace("\n", " ") for key, name in found.items()}
    caption = (
        f"Paired differences in AUC on the same rows and seeds, with {_confidence(content)} intervals. "
        "Right of zero, the model named first is better."
    )
    spec = draw_intervals(rows, DIFFERENCE_LOOKS, "Difference in AUC", signed=True)
    numbers = tabulate_differences(content.comparisons, names)
    return build_figure("differences", "Paired differences in AUC", caption, spec, numbers)


def _confidence(content: Content) -> str:
    return format_share(content.params["evaluation"]["confidence"])
