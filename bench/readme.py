"""Write the README's table of results from metrics/: run `python bench/readme.py` after the default run."""

from pathlib import Path
from typing import Any

from amalgam.files import read_json, write_text

README = Path("README.md")
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
MODELS = {
    "teacher": "teacher",
    "student": "student: distilled from it",
    "student_int8": "student in 8-bit integers, as it ships",
    "student_undistilled": "the same student without a teacher",
    "human_only": "human-only teacher, same recipe and compute",
    "embedding_lr": "frozen embedding + logistic regression",
    "tfidf_lr": "TF-IDF + logistic regression",
    "llm_grader": "the LLM as few-shot grader",
}


def format_results(metrics: Path) -> str:
    """Return the block between the marks: the table of the default run, and what it says."""
    models, gains, data, speed, training, ceiling, selective = (
        read_json(metrics / f"{name}.json")
        for name in ("models", "comparisons", "data", "speed", "training", "ceiling", "selective")
    )
    rows = data["rows"]
    gain, guard = gains["gain_over_human_only"], training.get("guard", {})
    verdict = (
        "better than the human-only teacher"
        if gain["auc_low"] > 0
        else "worse than the human-only teacher"
        if gain["auc_high"] < 0
        else "not clearly better or worse than the human-only teacher: the interval of the difference includes 0"
    )
    decision = f"The teacher is {verdict}."
    if guard:
        found = (
            f"classifiers of the human rows tell their labels apart with an AUC of {guard['label_auc']:.3f} (wanted: "
            f"{guard['least_label_auc']:.2f}), and in cross-validation on the {guard['rows']} human rows they brought "
            f"such a classifier {cell(guard, 'difference', '+')} of AUC"
        )
        decision = (
            f"The guard let the synthetic rows in: {found}. {decision}"
            if guard["helps"]
            else f"The guard left the synthetic rows out: {found}. So the teacher is the human-only one."
        )
    lines = [
        f"The default run: {data['learned']['human']} human-coded rows teach, and {data['learned']['synthetic']} that "
        f"a 135 M LLM wrote on the same machine; {rows['test']} human-coded test rows, three seeds. "
        "Intervals (95 %) are over seeds and reviews.",
        "",
        "| model | AUC | macro-F1 | Cohen's kappa |",
        "|---|---|---|---|",
        *(
            f"| {name} | {cell(models[model], 'auc')} | {cell(models[model], 'macro_f1')} "
            f"| {cell(models[model], 'kappa')} |"
            for model, name in MODELS.items()
            if model in models
        ),
        "",
        "| paired difference | AUC |",
        "|---|---|",
        f"| teacher \N{MINUS SIGN} human-only teacher | {cell(gains['gain_over_human_only'], 'auc', '+')} |",
        f"| teacher \N{MINUS SIGN} best baseline ({gains['gain_over_best_baseline']['baseline']}) "
        f"| {cell(gains['gain_over_best_baseline'], 'auc', '+')} |",
        f"| student \N{MINUS SIGN} teacher | {cell(gains['student_minus_teacher'], 'auc', '+')} |",
        f"| student \N{MINUS SIGN} the same without a teacher "
        f"| {cell(gains['student_minus_undistilled'], 'auc', '+')} |",
        f"| student in 8-bit integers \N{MINUS SIGN} student | {cell(gains['int8_minus_student'], 'auc', '+')} |",
        "",
        f"{decision} A run from nothing writes other rows; its numbers differ within intervals.",
        "",
        f"The student that ships has {speed['student_int8_megabytes']:.0f} MB, the teacher "
        f"{speed['teacher_megabytes']:.0f} MB, and it scored "
        f"{speed['student_int8_rows_per_second'] / speed['teacher_rows_per_second']:.0f} times as many rows a second. "
        f"Two coders of the same reviews agree with a kappa of {cell(ceiling['human_ceiling'], 'kappa')}. "
        f"{describe_selective(selective['selective'])}",
    ]
    return (
        "\n".join(lines).replace("+-", "-").replace("-0.", "\N{MINUS SIGN}0.").replace(" %", "\N{NO-BREAK SPACE}%")
        + "\n"
    )


def describe_selective(found: dict[str, Any]) -> str:
    """Say how many rows the student that ships labels alone, and how often coders agree with it there."""
    if "agreement" not in found:
        return (
            "The student asks a human about every test row: so few coded rows do not show that it may label any alone."
        )
    share, low, high = (100 * found[f"agreement{end}"] for end in ("", "_low", "_high"))
    return (
        f"The student labels {100 * found['coverage']:.0f} % of the test rows without a human, and coders agree with "
        f"{share:.0f} % [{low:.0f}, {high:.0f}] of these labels; about the others, it asks."
    )


def cell(values: dict[str, Any], name: str, sign: str = "") -> str:
    """Format a value with its interval."""
    return f"{values[name]:{sign}.3f} [{values[f'{name}_low']:{sign}.3f}, {values[f'{name}_high']:{sign}.3f}]"


def replace_results(readme: str, block: str) -> str:
    """Put the block between the marks."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + block + END + rest.split(END)[1]


if __name__ == "__main__":
    write_text(README, replace_results(README.read_text(encoding="utf-8"), format_results(Path("metrics"))))
