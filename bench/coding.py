"""Which responses are worth coding next? Compare rules that choose them, by the AUC that their codes give.

Run `python -m bench.coding FOLDER TASK...` after `dvc repro models`; FOLDER/TASK/responses.csv holds the rows of each
task (id, text, label, and question if there is one). The frozen encoder embeds up to 1,500 rows a task once, and a
logistic regression learns the codes. It starts with 20 random rows, stratified as in the pipeline; each rule then
chooses 20 at a time until there are 100. The baselines are 100 and 200 random rows. `.cache/bench` keeps the
embeddings.
"""

import argparse
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from amalgam.params import Split
from amalgam.tasks.coding import choose_responses
from amalgam.tasks.split import split_rows
from amalgam.tasks.texts import clean_text, fold_text
from amalgam.training.embeddings import STRENGTH, embed_rows

START, BATCH, LEARNED, MORE, TEST, MOST = 20, 20, 100, 200, 500, 1500
ENCODER, CACHE = Path("models/base/encoder"), Path(".cache/bench/coding")
Floats = np.ndarray
# Takes vectors of the uncoded and the coded rows, probabilities of the uncoded rows, and how many to choose.
Rule = Callable[[Floats, Floats, Floats, int], list[int]]


def measure_margin(probabilities: Floats) -> Floats:
    """Return how close the two most likely labels of each row are, from 0 to 1."""
    best = np.sort(probabilities, axis=1)
    return np.asarray(1 - (best[:, -1] - best[:, -2]))


def choose_uncertain(free: Floats, known: Floats, probabilities: Floats, count: int) -> list[int]:
    """Take the rows with the smallest margin."""
    return [int(row) for row in np.argsort(-measure_margin(probabilities), kind="stable")[:count]]


def choose_distant(free: Floats, known: Floats, probabilities: Floats, count: int) -> list[int]:
    """Take, one after the other, the row with the largest product of margin and distance to the coded rows."""
    margins, distances, chosen = measure_margin(probabilities), 1 - (free @ known.T).max(axis=1), []
    for _ in range(count):
        chosen.append(int((margins * distances).argmax()))
        distances = np.minimum(distances, 1 - free @ free[chosen[-1]])
    return chosen


def choose_typical(free: Floats, known: Floats, probabilities: Floats, count: int) -> list[int]:
    """Take the densest row of each of the largest clusters without a coded row (TypiClust, Hacohen et al. 2022)."""
    clusters = KMeans(len(known) + count, n_init=1, random_state=0).fit_predict(np.concatenate([known, free]))
    own = clusters[len(known) :]
    order = np.argsort(-np.bincount(own, minlength=len(known) + count), kind="stable")
    chosen = []
    for cluster in [each for each in order if each not in set(clusters[: len(known)])][:count]:
        rows = np.flatnonzero(own == cluster)
        nearest = np.sort(free[rows] @ free[rows].T, axis=1)[:, -20:].mean(axis=1)
        chosen.append(int(rows[nearest.argmax()]))
    return chosen


def choose_covering(free: Floats, known: Floats, probabilities: Floats, count: int) -> list[int]:
    """Choose by facility location only: the product's rule with all rows equally uncertain."""
    return choose_responses(free, known, np.full_like(probabilities, 0.5), count)


RULES: dict[str, Rule] = {
    "least margin": choose_uncertain,
    "margin x distance (k-centre)": choose_distant,
    "typical rows (TypiClust)": choose_typical,
    "facility location": choose_covering,
    "margin x facility location: `amalgam next`": choose_responses,
}


class Task:
    """The embedded rows of a task, and what can be learned from them."""

    def __init__(self, folder: Path, name: str) -> None:
        """Read and embed the rows, or read the embeddings."""
        rows = pd.read_csv(folder / name / "responses.csv", dtype=str, keep_default_na=False)
        rows = rows.assign(question=rows.get("question", ""))
        rows[["text", "question"]] = rows[["text", "question"]].map(clean_text)
        rows = rows[~(rows["question"] + "\n" + rows["text"].map(fold_text)).duplicated() & (rows["text"] != "")]
        # Without groups: in some tasks they leave too few rows outside the test set.
        rows = rows.sample(min(MOST, len(rows)), random_state=0)[["id", "text", "question", "label"]]
        self.rows = rows.reset_index(drop=True)
        path = CACHE / f"{name}.npy"
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, embed_rows(ENCODER, self.rows, max_length=128))
        self.vectors = np.load(path)
        self.classes, labels = pd.factorize(self.rows["label"], sort=True)
        self.count = len(labels)

    def split(self, human_rows: int, seed: int) -> tuple[list[int], list[int], list[int]]:
        """Return the positions of the coded, the test and the uncoded rows."""
        places = {name: place for place, name in enumerate(self.rows["id"])}
        most = len(self.rows)
        split = Split(seed=seed, by="random", test=TEST, validation=0.2, unlabelled=most)
        tables = split_rows(self.rows, human_rows, split)
        parts = pd.concat([tables["train"], tables["validation"]]), tables["test"], tables["unlabelled"]
        return tuple([places[name] for name in part["id"]] for part in parts)  # type: ignore[return-value]

    def score(self, coded: list[int], rows: list[int]) -> Floats:
        """Learn the coded rows, and return probabilities [rows, classes] of other rows."""
        base, sizes, axes = np.linalg.svd(self.vectors[coded], full_matrices=False)  # the same fit, in fewer dimensions
        model = LogisticRegression(C=STRENGTH, solver="newton-cholesky").fit(base * sizes, self.classes[coded])
        return np.asarray(model.predict_proba(self.vectors[rows] @ axes.T))

    def measure(self, coded: list[int], tested: list[int]) -> float:
        """Return the AUC on the test rows: with more than two classes, the mean over the classes."""
        scores, actual = self.score(coded, tested), self.classes[tested]
        classes = range(1, 2) if self.count == 2 else range(self.count)
        return float(np.mean([roc_auc_score(actual == each, scores[:, each]) for each in classes]))

    def follow(self, rule: Rule, seed: int) -> float:
        """Let a rule choose, batch by batch, and return the AUC at the end."""
        coded, tested, free = self.split(START, seed)
        while len(coded) < LEARNED:
            vectors = self.vectors[free], self.vectors[coded]
            chosen = set(rule(*vectors, self.score(coded, free), BATCH))
            coded += [free[place] for place in chosen]
            free = [row for place, row in enumerate(free) if place not in chosen]
        return self.measure(coded, tested)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("tasks", nargs="+")
    parser.add_argument("--seeds", type=int, default=10)
    given = parser.parse_args()
    warnings.filterwarnings("ignore", module="sklearn")
    table: dict[str, dict[str, float]] = {}
    for task in (Task(given.folder, name) for name in given.tasks):
        seeds = range(given.seeds)
        found = {
            f"{size} random rows": [task.measure(*task.split(size, seed)[:2]) for seed in seeds]
            for size in (START, LEARNED, MORE)
        }
        found |= {name: [task.follow(rule, seed) for seed in seeds] for name, rule in RULES.items()}
        table[given.tasks[len(table)]] = {name: float(np.mean(values)) for name, values in found.items()}
        print(pd.DataFrame(table).round(3).to_markdown(), flush=True)


if __name__ == "__main__":
    main()
