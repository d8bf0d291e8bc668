"""Write the README's table of results from metrics/: run `python -m bench.readme` after the default run.

`--setfit PYTHON` first trains SetFit on the same human rows, with the Python of an environment that has it (see
setfit_peer.py), and writes what it gets on the test rows to bench/setfit.json.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import encode_groups, encode_labels, estimate_models, summarise_estimates
from amalgam.files import read_json, read_rows, write_json, write_text
from amalgam.params import load_params
from amalgam.tasks.schema import load_task
from bench.opponents import train_setfit

README, SETFIT = Path("README.md"), Path("bench/setfit.json")
PREPARED, ENCODER = Path("data/prepared"), Path("models/base/encoder")
BEGIN, END = "<!-- results: begin -->\n", "<!-- results: end -->\n"
MODELS = {
    "student_int8": "**the student**, as it ships",
    "teacher": "its teacher",
    "human_only": "the same teacher without synthetic rows",
    "student_undistilled": "the student without a teacher",
    "setfit": "SetFit on the teacher's encoder",
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
    setfit = read_json(SETFIT) if SETFIT.is_file() else None
    if setfit:
        models["setfit"] = setfit
    learned, gain = data["learned"], gains["gain_over_human_only"]
    verdict = "better" if gain["auc_low"] > 0 else "worse" if gain["auc_high"] < 0 else "not clearly better or worse"
    minutes = f" SetFit took {setfit['minutes']:.0f} minutes per seed on one core." if setfit else ""
    faster = speed["student_int8_rows_per_second"] / speed["teacher_rows_per_second"]
    lines = [
        f"The default run, with {learned['human']} human-coded rows, {learned['synthetic']} synthetic ones by a 135 M "
        f"LLM on this machine, and {data['rows']['test']} human-coded test rows (95 % intervals over seeds and rows):",
        "",
        "| | AUC | Cohen's kappa |",
        "|---|---|---|",
        *(
            f"| {name} | {cell(models[model], 'auc')} | {cell(models[model], 'kappa')} |"
            for model, name in MODELS.items()
            if model in models
        ),
        f"| two human coders | | {cell(ceiling['human_ceiling'], 'kappa')} |",
        "",
        f"The student is {speed['student_int8_megabytes']:.0f} MB, its teacher {speed['teacher_megabytes']:.0f} MB, "
        f"and the student scores {faster:.0f} times as many rows a second. {describe_selective(selective['selective'])}"
        f" The teacher is {verdict} with synthetic rows than without: "
        f"{cell(gain, 'auc', '+')} in AUC.{describe_guard(training.get('guard'))}{minutes}",
    ]
    return "\n".join(lines).replace("-0.", "\N{MINUS SIGN}0.").replace(" %", "\N{NO-BREAK SPACE}%") + "\n"


def describe_guard(guard: dict[str, Any] | None) -> str:
    """Say what the guard decided, where it was asked."""
    if guard is None:
        return ""
    decision = "let the synthetic rows in" if guard["helps"] else "left the synthetic rows out"
    return f" The guard {decision}: the human rows confirm their labels with an AUC of {guard['label_auc']:.2f}."


def describe_selective(found: dict[str, Any]) -> str:
    """Say how many rows the student that ships labels alone, and how often coders agree with it there."""
    if "agreement" not in found:
        return "It sends every row to a human: so few coded rows give no evidence that it can label any on its own."
    share, low, high = (100 * found[f"agreement{end}"] for end in ("", "_low", "_high"))
    return (
        f"It labels {100 * found['coverage']:.0f} % of the test rows without a human, and coders agree with "
        f"{share:.0f} % [{low:.0f}, {high:.0f}] of these labels."
    )


def cell(values: dict[str, Any], name: str, sign: str = "") -> str:
    """Format a value with its interval."""
    return f"{values[name]:{sign}.3f} [{values[f'{name}_low']:{sign}.3f}, {values[f'{name}_high']:{sign}.3f}]"


def measure_setfit(interpreter: Path) -> dict[str, Any]:
    """Train SetFit with the run's seeds on its human rows; return its metrics on the test rows, and minutes a seed."""
    params = load_params(Path("params.yaml"))
    task = load_task(Path("data/tasks") / params.task)
    human = pd.concat([read_rows(PREPARED / f"{name}.csv") for name in ("train", "validation")])
    test, labels = read_rows(PREPARED / "test.csv"), task.label_names
    scored, seconds = [], []
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "out.csv"
        for seed in params.seeds:
            summary = train_setfit(interpreter, human, PREPARED / "test.csv", ENCODER, labels, seed, out)
            seconds.append(summary["seconds"])
            scored.append(pd.read_csv(out)[labels].to_numpy())
    actual, groups = encode_labels(test, labels, f"{PREPARED}/test.csv"), encode_groups(test)
    stacks = {"setfit": np.stack(scored)}
    estimates = estimate_models(actual, groups, stacks, ordinal=task.ordinal)["setfit"]
    return {**summarise_estimates(estimates, params.evaluation.confidence), "minutes": float(np.mean(seconds)) / 60}


def replace_results(readme: str, block: str) -> str:
    """Put the block between the marks."""
    head, rest = readme.split(BEGIN)
    return head + BEGIN + block + END + rest.split(END)[1]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setfit", type=Path, help="a Python that has SetFit")
    if interpreter := parser.parse_args().setfit:
        write_json(SETFIT, measure_setfit(interpreter))
    write_text(README, replace_results(README.read_text(encoding="utf-8"), format_results(Path("metrics"))))
