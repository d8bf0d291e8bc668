"""Which rule for the guard? Compare rules over many draws of human rows, by their gain on the test rows.

Run `python -m bench.rules` after `python -m bench.pools FOLDER --tasks TASK...` with the tasks below. A draw takes 51
human rows that the LLM did not see and asks the guard about the synthetic rows. Their gain is measured on the test
rows, by logistic regressions on frozen embeddings with and without them. This shows how much each rule gains, and how
often it lets harm happen. Copies of the human rows gain nothing, and the guard must find that.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pandas as pd

from amalgam.files import read_rows
from amalgam.params import Params, load_params
from amalgam.training.embeddings import embed_rows, index_labels
from amalgam.training.guard import Evidence, ask_guard, fit_and_score, measure_label_auc
from bench.pools import CACHE, TASKS
from bench.variants import ENCODER, Setting

MORE_TASKS = ("asap_sas_06", "beetle_3way", "mohler_cs", "talkmoves_student")
HUMAN_ROWS = 51
HARM = 0.02  # of AUC; only larger losses count
LEAST = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75)  # AUC of the labels
Rule = Callable[[Evidence], bool]


def require(least: float, *, errors: float) -> Rule:
    """Make the guard's rule: a least AUC of the labels, and a gain of at least minus that many standard errors."""
    return lambda found: found.label_auc >= least and found.difference >= -errors * found.difference_error


RULES: dict[str, Rule] = {
    "never": lambda _: False,
    "always": lambda _: True,
    "cross-validated gain above 0": lambda found: found.difference > 0,
    "cross-validated gain at least minus one standard error": require(0, errors=1),
    **{f"the same, and labels' AUC at least {least:.2f}": require(least, errors=1) for least in LEAST},
    **{f"labels' AUC at least {least:.2f} alone": require(least, errors=99) for least in LEAST},
}


class Draws:
    """One task: its rows as vectors, and the results of drawing human rows."""

    def __init__(self, task: str, params: Params) -> None:
        """Read and embed the rows; draws take coded rows that the LLM did not see."""
        few, many = Setting(task, 51), Setting(task, 200)
        self.labels, self._params = few.labels, params
        coded = many.read_human()
        self._human = coded[~coded["id"].isin(few.read("train")["id"])]
        self._synthetic = read_rows(CACHE / task / "synthetic.csv").assign(shots="")
        self._test = few.read("test")
        rows = pd.concat([self._human, self._synthetic, self._test], ignore_index=True)[["id", "question", "text"]]
        vectors = embed_rows(ENCODER, rows, max_length=params.teacher.max_length)
        self._vectors = dict(zip(rows["id"], vectors, strict=True))

    def draw(self, seed: int) -> tuple[Evidence, float, float] | None:
        """Return the guard's evidence for the draw of this seed, its gain for copies, and the gain on the test rows."""
        human = self._human.sample(HUMAN_ROWS, random_state=seed)
        if human["label"].value_counts().reindex(self.labels, fill_value=0).min() < 2:
            return None
        found = self._ask(human, self._synthetic, seed)
        copies = self._ask(human, human.assign(shots=human["id"].map(quote)), seed)
        if found is None or copies is None:
            return None
        before, after = (self._measure(rows, len(human)) for rows in (human, pd.concat([human, self._synthetic])))
        return found, copies.difference, after - before

    def _ask(self, human: pd.DataFrame, synthetic: pd.DataFrame, seed: int) -> Evidence | None:
        vectors = self._stack(human), self._stack(synthetic)
        return ask_guard(human, synthetic, vectors, self.labels, seed=seed)

    def _measure(self, learned: pd.DataFrame, human: int) -> float:
        """Return the test AUC of a classifier of some rows, which together weigh as much as the human rows alone."""
        classes, weight = index_labels(learned, self.labels), human / len(learned)
        logits = fit_and_score(self._stack(learned), classes, self._stack(self._test), len(self.labels), weight)
        return measure_label_auc(self._test, self.labels, logits)

    def _stack(self, rows: pd.DataFrame) -> np.ndarray:
        return np.stack([self._vectors[row] for row in rows["id"]])


def main(tasks: list[str], draws: int) -> None:
    """Draw, then print the draws of each task and the outcome of each rule."""
    params = load_params(Path("params.yaml"))
    found: dict[str, list[tuple[Evidence, float]]] = {}
    print(
        "| task | draws | labels' AUC | cross-validated gain | standard error | copies | gain on test rows | let in |"
    )
    print("|---|---|---|---|---|---|---|---|")
    for task in tasks:
        source = Draws(task, params)
        drawn = [one for seed in range(draws) if (one := source.draw(seed))]
        found[task] = [(evidence, gain) for evidence, _, gain in drawn]
        values = [(one.label_auc, one.difference, one.difference_error, copies, gain) for one, copies, gain in drawn]
        label_auc, difference, error, copies, gain = np.mean(values, axis=0)
        share = np.mean([one.helps for one, _ in found[task]])
        cells = f"{label_auc:.3f} | {difference:+.3f} | {error:.3f} | {copies:+.3f} | {gain:+.3f} | {share:.0%}"
        print(f"| {task} | {len(drawn)} | {cells} |", flush=True)
    print(f"\n| rule | gain | draws that lose more than {HARM} | draws that miss a gain as large |\n|---|---|---|---|")
    for name, rule in RULES.items():
        sums = np.mean([weigh_rule(rule, of_task) for of_task in found.values()], axis=0)
        print(f"| {name} | {sums[0]:+.4f} | {sums[1]:.1%} | {sums[2]:.1%} |")


def weigh_rule(rule: Rule, drawn: list[tuple[Evidence, float]]) -> np.ndarray:
    """Return the mean gain under the rule, the share of draws that lose much, and the share that miss much."""
    gains = np.array([gain for _, gain in drawn])
    used = np.array([rule(evidence) for evidence, _ in drawn])
    return np.array([np.mean(gains * used), np.mean(used & (gains < -HARM)), np.mean(~used & (gains > HARM))])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, *MORE_TASKS])
    parser.add_argument("--draws", type=int, default=40)
    args = parser.parse_args()
    main(args.tasks, args.draws)
