"""Compare what the guard decides on the human rows alone with the gain of the same synthetic rows on test rows.

Run `python -m bench.guarding` after `python -m bench.pools FOLDER`. Teacher and twin have two members each, trained
with the same steps and seeds: both share the member that learns the human rows by contrast; the other learns the mix,
or only the human rows, by cross-entropy. Results of training are kept in `.cache/bench` and shared with
`bench.variants`, so that an interrupted run resumes; give each core its own tasks, as in `bench.gains`.
"""

import argparse
from pathlib import Path

import pandas as pd

from amalgam.params import Params, load_params
from amalgam.training.embeddings import embed_rows
from amalgam.training.guard import Evidence, ask_guard
from bench.pools import SIZES, TASKS
from bench.variants import ENCODER, Setting, measure_difference, measure_way

TEACHER, TWIN = "ensemble of both objectives", "human only, both objectives"


def ask_about(
    human: pd.DataFrame,
    mixed: pd.DataFrame,
    labels: list[str],
    params: Params,
    seed: int,
    encoder: Path = ENCODER,
    grading: float | None = None,
) -> Evidence | None:
    """Ask the guard about the synthetic rows of a mix, as the stage `teacher` does."""
    synthetic = mixed[mixed["origin"] == "synthetic"]
    vectors = embed_rows(encoder, pd.concat([human, synthetic]), max_length=params.teacher.max_length)
    both = vectors[: len(human)], vectors[len(human) :]
    return ask_guard(human, synthetic, both, labels, seed=seed, grading=grading)


def main(tasks: list[str], sizes: list[int], seeds: list[int]) -> None:
    """Measure all settings, then print the table."""
    params = load_params(Path("params.yaml"))
    print("| setting | labels' AUC | cross-validated gain | rows | human only | mix | mix minus human only |")
    print("|---|---|---|---|---|---|---|")
    for setting in (Setting(task, size) for size in sizes for task in tasks):
        human = setting.read_human()
        evidence = ask_about(human, setting.mix(human, params.ratio), setting.labels, params, seeds[0])
        if evidence is None:
            continue
        guard, decision = evidence.to_dict(), "in" if evidence.helps else "out"
        said = f"{guard['difference']:+.3f} [{guard['difference_low']:+.3f}, {guard['difference_high']:+.3f}]"
        teacher, twin = (measure_way(way, setting, params, seeds) for way in (TEACHER, TWIN))
        area, gain = measure_difference(setting, teacher, twin, params)
        cells = [f"{evidence.label_auc:.3f}", said, decision, f"{area - gain.value:.3f}", f"{area:.3f}", str(gain)]
        print(f"| {setting.task}, {setting.size} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3, 4, 5])
    args = parser.parse_args()
    main(args.tasks, args.sizes, args.seeds)
