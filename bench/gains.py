"""Does it help, and on which tasks? Compare Amalgam with what people would pick instead, on human-coded test rows.

Run `python -m bench.gains` after `python -m bench.pools FOLDER`. Results of training are kept in `.cache/bench`, so
that an interrupted run resumes. Measurements are kept in `bench/gains.jsonl`, one line for each setting, and the tables
are made from it; `--again` compares anew what is on disk. `--encoder FOLDER` is the encoder of all methods that have
one. `--setfit PYTHON` names the interpreter of an environment with SetFit (see setfit_peer.py), `--grader` lets the LLM
grade the test rows; without these options, both methods are left out unless their results are on disk. `--only setfit`,
`--only grader` and `--only amalgam` make one piece and compare nothing, so that pieces can be made in parallel, one
core each (`taskset -c 0 python -m bench.gains --only amalgam`); then run it once more without `--only`.

For each number of human rows, one table has the AUC of each method (the mean over its seeds), and one has minutes: the
time to train one model and score the test rows, without the LLM that writes synthetic rows. Minutes are meaningful only
for processes that had their cores to themselves. Then the student is compared with SetFit, with the opponent that did
best on the same test rows (which favours that opponent), with its teacher, and with its twin, the recipe on the human
rows alone. Differences are paired, with 95 % intervals over seeds and test rows; p-values are corrected for the number
of tasks by Holm's method. The last line has the means with an interval over tasks (Student's t).
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from amalgam.evaluation.bootstrap import correct_p_values, encode_groups, encode_labels, estimate_models
from amalgam.params import Params, load_params
from bench.differences import Gain, measure_gain
from bench.opponents import (
    EMBEDDING,
    GRADER,
    SETFIT,
    TFIDF,
    Scored,
    fit_baselines,
    grade_rows,
    identify,
    run_setfit,
)
from bench.pools import SIZES, TASKS
from bench.recipe import STUDENT, TEACHER, TWIN, Recipe
from bench.variants import ENCODER, Setting, format_mean

RESULTS = Path("bench/gains.jsonl")
OPPONENTS = (GRADER, TFIDF, EMBEDDING, SETFIT, TWIN)
METHODS = (*OPPONENTS, TEACHER, STUDENT)
PIECES = ("setfit", "grader", "amalgam")


@dataclass(frozen=True)
class Result:
    """The result of one setting; `gains` has the student's gain over SetFit, the best opponent, teacher and twin."""

    areas: dict[str, float]
    minutes: dict[str, float]
    best: str  # the opponent with the highest AUC on the same test rows
    gains: dict[str, Gain]
    helps: bool

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Make a result from what `asdict` returns."""
        gains = {name: Gain(**gain) for name, gain in fields["gains"].items()}
        return cls(**fields | {"gains": gains})


def compare(setting: Setting, found: dict[str, Scored], params: Params, *, helps: bool) -> Result:
    """Compare the student with SetFit (if it was run), the best opponent, its teacher and its twin."""
    test = setting.read("test")
    actual, groups = encode_labels(test, setting.labels, "the test rows"), encode_groups(test)
    estimates = {  # one by one, since the numbers of seeds differ; all on the same resamples
        name: estimate_models(actual, groups, {name: one.probabilities}, ordinal=False)[name]["auc"]
        for name, one in found.items()
    }
    areas = {name: estimates[name].value for name in METHODS if name in found}
    best = max((name for name in OPPONENTS if name in found), key=lambda name: areas[name])
    others = {SETFIT: SETFIT, "best": best, "teacher": TEACHER, "twin": TWIN}
    gains = {
        name: measure_gain(estimates[STUDENT], estimates[other], params.evaluation.confidence)
        for name, other in others.items()
        if other in estimates
    }
    minutes = {name: one.minutes for name, one in found.items() if one.minutes is not None}
    return Result(areas, minutes, best, gains, helps)


def print_tables(results: dict[str, Result]) -> None:
    """Print AUC and minutes by method, and the student's gains."""
    print_methods("AUC", {name: one.areas for name, one in results.items()}, 3)
    print_methods("minutes", {name: one.minutes for name, one in results.items()}, 1)
    heads = ["student minus SetFit", "p", "best opponent", "student minus it", "p", "student minus teacher"]
    heads += ["student minus twin", "synthetic rows"]
    print(f"\n| task | {' | '.join(heads)} |\n|---|" + "---|" * len(heads))
    p_values = {
        name: correct({task: one.gains.get(name) for task, one in results.items()}) for name in (SETFIT, "best")
    }
    for task, one in results.items():
        setfit, best, teacher, twin = (str(one.gains.get(name, "")) for name in (SETFIT, "best", "teacher", "twin"))
        cells = [setfit, p_values[SETFIT][task], one.best, best, p_values["best"][task], teacher, twin]
        print(f"| {' | '.join([task, *cells])} | {'in' if one.helps else 'out'} |")
    found = {
        name: np.array([one.gains[name].value for one in results.values() if name in one.gains])
        for name in (SETFIT, "best", "teacher", "twin")
    }
    setfit, best, teacher, twin = (format_mean(values) if len(values) else "" for values in found.values())
    print(f"| mean | {setfit} | | | {best} | | {teacher} | {twin} | |")


def print_methods(corner: str, values: dict[str, dict[str, float]], digits: int) -> None:
    """Print one value for each method and task, and the mean of methods that have a value on every task."""
    print(f"\n| {corner} | {' | '.join(values)} | mean |\n|---|" + "---|" * (len(values) + 1))
    for name in METHODS:
        row = [one.get(name) for one in values.values()]
        known = [value for value in row if value is not None]
        if known:
            mean = float(np.mean(known)) if len(known) == len(row) else None
            cells = ["" if value is None else f"{value:.{digits}f}" for value in [*row, mean]]
            print(f"| {name} | {' | '.join(cells)} |")


def correct(gains: dict[str, Gain | None]) -> dict[str, str]:
    """Return the p-value of each task, corrected for the number of tasks by Holm's method; "" where there is none."""
    known = {task: gain.p for task, gain in gains.items() if gain}
    corrected = dict(zip(known, correct_p_values(list(known.values())), strict=True))
    return {task: f"{corrected[task]:.3f}" if task in corrected else "" for task in gains}


def read_results(encoder: str) -> dict[tuple[str, int], Result]:
    """Read an encoder's results by task and number of human rows; the last of several measurements counts."""
    lines = [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.is_file() else []
    own = [line for line in lines if line.pop("encoder") == encoder]
    return {(line.pop("task"), line.pop("size")): Result.from_dict(line) for line in own}


def make_piece(name: str, setting: Setting, params: Params, args: argparse.Namespace) -> dict[str, Scored]:
    """Make one of `PIECES`, or read it from disk."""
    if name == "setfit":
        return run_setfit(setting, args.encoder, args.setfit)
    if name == "grader":
        return grade_rows(setting, params, ask=args.grader or args.only == "grader")
    return Recipe(setting, params, args.seeds, args.encoder).run()


def measure(setting: Setting, params: Params, args: argparse.Namespace) -> Result:
    """Make all pieces of a setting, compare them, and save the result."""
    found = make_piece("grader", setting, params, args)  # first: threads of the LLM and of torch disturb each other
    for name in ("setfit", "amalgam"):
        found |= make_piece(name, setting, params, args)
    found |= fit_baselines(setting, args.encoder, params)
    helps = Recipe(setting, params, args.seeds, args.encoder).helps
    result = compare(setting, found, params, helps=helps)
    key = {"task": setting.task, "size": setting.size, "encoder": identify(args.encoder)}
    with RESULTS.open("a") as file:
        file.write(json.dumps(key | asdict(result)) + "\n")
    return result


def main(args: argparse.Namespace) -> None:
    """Make one piece of all settings, or measure the settings not measured yet and print the tables."""
    params = load_params(Path("params.yaml"))
    for size in args.sizes:
        settings = {task: Setting(task, size) for task in args.tasks}
        if args.only:
            for setting in settings.values():
                make_piece(args.only, setting, params, args)
            continue
        known = {} if args.again else read_results(identify(args.encoder))
        results = {}
        for task, setting in settings.items():
            results[task] = known.get((task, size)) or measure(setting, params, args)
        print_tables(results)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument("--sizes", nargs="+", type=int, default=list(SIZES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="of Amalgam's models")
    parser.add_argument("--encoder", type=Path, default=ENCODER)
    parser.add_argument("--setfit", type=Path, help="a Python that has SetFit")
    parser.add_argument("--grader", action="store_true", help="let the LLM grade test rows that it has not graded")
    parser.add_argument("--only", choices=PIECES)
    parser.add_argument("--again", action="store_true")
    given = parser.parse_args()
    if given.only == "setfit" and given.setfit is None:
        parser.error("--only setfit needs --setfit PYTHON")
    main(given)
