"""Write the README's table of results from metrics/: run `python bench/readme.py` after the default run."""

from pathlib import Path
from typing import Any

from amalgam.files import read_json, write_text

README = Path("README.md")
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
MODELS = {
    "teacher": "teacher: BERT on the mix",
    "student": "student: distilled from it",
    "human_only": "human-only teacher, same steps",
    "embedding_lr": "frozen embedding + logistic regression",
    "tfidf_lr": "TF-IDF + logistic regression",
    "llm_grader": "the LLM as few-shot grader",
}


def format_results(metrics: Path) -> str:
    """Return the block between the marks: the table of the default run, and what it says."""
    models, gains, data, speed = (
        read_json(metrics / f"{name}.json") for name in ("models", "comparisons", "data", "speed")
    )
    rows = data["rows"]
    gain = gains["gain_over_human_only"]
    verdict = (
        "better than the human-only teacher"
        if gain["auc_low"] > 0
        else "worse than the human-only teacher"
        if gain["auc_high"] < 0
        else "not clearly better or worse than the human-only teacher: the interval of the difference includes 0"
    )
    lines = [
        f"The default run: {rows['train']} human-coded train rows, {rows['validation']} validation rows, mixed 20:80 "
        f"with rows that a 135 M LLM wrote on the same machine; {rows['test']} human-coded test rows, three seeds. "
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
        "",
        f"So the mix is {verdict}. A run from nothing writes other rows; its numbers differ within intervals.",
        "",
        f"The student has {speed['size_ratio']:.0%} of the teacher's bytes and scored {speed['speedup']:.1f} times as "
        f"many rows a second. Two coders of the same reviews agree with a kappa of {data['rater_kappa']:.3f}.",
    ]
    return (
        "\n".join(lines).replace("+-", "-").replace("-0.", "\N{MINUS SIGN}0.").replace(" %", "\N{NO-BREAK SPACE}%")
        + "\n"
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
