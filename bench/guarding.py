"""What the guard decides on the human rows alone, beside what the test rows say of the same synthetic rows.

Run `python -m bench.guarding` after `python -m bench.pools FOLDER`. What was trained is kept in `.cache/bench` and
shared with `bench.variants` and `bench.gains`, so that a run that was ended goes on where it was; give each core its
own tasks, as there.
"""

import argparse
from pathlib import Path

from amalgam.evaluation.bootstrap import subtract_estimates, summarise_estimates
from amalgam.evaluation.compare import encode_groups, encode_labels, estimate_models
from amalgam.params import Params, load_params
from bench.gains import Bench
from bench.pools import SIZES, TASKS
from bench.variants import Setting, measure_way


def measure_blend(setting: Setting, params: Params, seeds: list[int]) -> dict[str, float]:
    """Return the AUC of the human-only teacher, of one of the mix, of their blend, and the blend's paired gain."""
    alone = measure_way("human only, embedding head", setting, params, seeds)
    mixed = measure_way("embedding head", setting, params, seeds)
    test = setting.read("test")
    models = {"human": alone, "mix": mixed, "blend": (alone + mixed) / 2}
    actual = encode_labels(test, setting.labels, "the test rows")
    estimates = estimate_models(actual, encode_groups(test), models, params.evaluation, ordinal=False)
    gain = subtract_estimates(estimates["blend"], estimates["human"], ("auc",))
    found = summarise_estimates(gain, params.evaluation.confidence)
    areas = {name: estimates[name]["auc"].value for name in models}
    return areas | {f"gain{end}": found[f"auc{end}"] for end in ("", "_low", "_high")}


def format_interval(values: dict[str, float], name: str) -> str:
    """Write a difference with its interval."""
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    return f"{values[name]:+.3f} [{low:+.3f}, {high:+.3f}]"


def main(tasks: list[str], sizes: list[int], seeds: list[int]) -> None:
    """Measure all settings, then print the table."""
    params = load_params(Path("params.yaml"))
    print("| setting | labels' AUC | cross-validated gain | rows | human only | mix | blend | blend minus human only |")
    print("|---|---|---|---|---|---|---|---|")
    for setting in (Setting(task, size) for size in sizes for task in tasks):
        bench = Bench(setting, params, seeds, None)
        bench.run_amalgam()
        guard = bench.read_evidence()
        found = measure_blend(setting, params, seeds)
        decision = "in" if guard["helps"] else "out"
        areas = " | ".join(f"{found[name]:.3f}" for name in ("human", "mix", "blend"))
        evidence = f"{guard['label_auc']:.3f} | {format_interval(guard, 'difference')}"
        cells = (f"{setting.task}, {setting.size}", evidence, decision, areas)
        print(f"| {' | '.join(cells)} | {format_interval(found, 'gain')} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    main(args.tasks, args.sizes, args.seeds)
