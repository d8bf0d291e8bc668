"""Compare what the guard decides on the human rows alone with the gain of the same synthetic rows on test rows.

Run `python -m bench.guarding` after `python -m bench.pools FOLDER`. Teacher and twin have two members each, trained
with the same steps and seeds: both share the member that learns the human rows by contrast; the other learns the mix,
or only the human rows, by cross-entropy. Results of training are kept in `.cache/bench` and shared with
`bench.variants`, so that an interrupted run resumes; give each core its own tasks, as in `bench.gains`.
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")

import pandas as pd

from amalgam.evaluation.bootstrap import (
    encode_groups,
    encode_labels,
    estimate_models,
    subtract_estimates,
    summarise_estimates,
)
from amalgam.params import Params, load_params
from amalgam.training.embeddings import embed_rows
from amalgam.training.guard import Evidence, ask_guard
from bench.pools import SIZES, TASKS
from bench.variants import ENCODER, Setting, measure_way

# By name, the way of the member that differs.
SIDES = {
    "human only": "human only",
    "mix": "plain mix",
}
SHARED = "human only, contrastive"


def measure_sides(setting: Setting, params: Params, seeds: list[int]) -> dict[str, float]:
    """Return the AUC of the human-only teacher and of the teacher of the mix, and the paired gain of the latter."""
    test = setting.read("test")
    shared = measure_way(SHARED, setting, params, seeds)
    models = {name: (shared + measure_way(way, setting, params, seeds)) / 2 for name, way in SIDES.items()}
    actual = encode_labels(test, setting.labels, "the test rows")
    estimates = estimate_models(actual, encode_groups(test), models, ordinal=False)
    gain = subtract_estimates(estimates["mix"], estimates["human only"], ("auc",))
    found = summarise_estimates(gain, params.evaluation.confidence)
    areas = {name: estimates[name]["auc"].value for name in models}
    return areas | {f"gain{end}": found[f"auc{end}"] for end in ("", "_low", "_high")}


def ask_about(setting: Setting, params: Params, seed: int, encoder: Path = ENCODER) -> Evidence | None:
    """Ask the guard about the synthetic rows of a setting, as the stage `teacher` does."""
    human = pd.concat([setting.read("train"), setting.read("validation")], ignore_index=True)
    mixed = setting.mix(human, params.ratio)
    synthetic = mixed[mixed["origin"] == "synthetic"]
    vectors = embed_rows(encoder, pd.concat([human, synthetic]), max_length=params.teacher.max_length)
    both = vectors[: len(human)], vectors[len(human) :]
    return ask_guard(human, synthetic, both, setting.labels, seed=seed)


def format_interval(values: dict[str, float], name: str) -> str:
    """Write a difference with its interval."""
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    return f"{values[name]:+.3f} [{low:+.3f}, {high:+.3f}]"


def main(tasks: list[str], sizes: list[int], seeds: list[int]) -> None:
    """Measure all settings, then print the table."""
    params = load_params(Path("params.yaml"))
    print("| setting | labels' AUC | cross-validated gain | rows | human only | mix | mix minus human only |")
    print("|---|---|---|---|---|---|---|")
    for setting in (Setting(task, size) for size in sizes for task in tasks):
        evidence = ask_about(setting, params, seeds[0])
        if evidence is None:
            continue
        guard, found = evidence.to_dict(), measure_sides(setting, params, seeds)
        decision = "in" if evidence.helps else "out"
        areas = " | ".join(f"{found[name]:.3f}" for name in SIDES)
        said = f"{evidence.label_auc:.3f} | {format_interval(guard, 'difference')} | {decision}"
        print(f"| {setting.task}, {setting.size} | {said} | {areas} | {format_interval(found, 'gain')} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    main(args.tasks, args.sizes, args.seeds)
