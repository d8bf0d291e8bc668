"""How far cross-validation can vouch for an agreement: many draws of human rows, with logistic regression.

Run `python -m bench.vouching FOLDER` after `dvc repro models`; FOLDER/TASK/responses.csv holds the rows of each task in
bench/tasks. A draw splits a task anew, labels its human rows out of fold, and carries the share that is vouched for
over to the test rows by means of the uncoded texts, as the stage `export` does. Logistic regressions on frozen
embeddings replace teachers and student, so that many draws are possible. By number of human rows and confidence, the
table has how many draws ask about every row, the share labelled alone, how often coders agree there, and in how many
draws the whole interval of that agreement is below `shipping.agreement`. The first line of each number takes the
largest share whose labels reach that agreement, without a bound.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from amalgam.errors import DataError
from amalgam.evaluation.bootstrap import encode_groups
from amalgam.evaluation.subsets import measure_selective
from amalgam.params import Params, load_params
from amalgam.shipping.calibration import Judged, find_agreement
from amalgam.tasks.schema import load_task
from amalgam.tasks.texts import find_units
from amalgam.training.embeddings import embed_rows, index_labels
from amalgam.training.guard import FOLDS, deal_folds, fit_and_score
from bench.pools import TASKS, load_rows, split_task
from bench.rules import MORE_TASKS
from bench.variants import ENCODER, soften

SIZES = (51, 100, 200)
CONFIDENCES = (0.0, 0.6, 0.7, 0.8, 0.9, 0.95)
_MOST = 3000  # rows of a task, so that embedding them takes a minute at most
_FEWEST = 7  # rows of the largest share without a bound


@dataclass(frozen=True)
class Draw:
    """Human rows as labelled by classifiers of the others; texts and test rows as labelled by a classifier of all."""

    judged: Judged
    uncoded: np.ndarray  # certainty [texts]
    test: pd.DataFrame
    classes: np.ndarray  # of the test rows [rows]
    probabilities: np.ndarray  # of the test rows [rows, classes]

    def measure(self, confidence: float, params: Params) -> dict[str, float]:
        """Measure labelling without a human on the test rows; confidence 0 means no bound."""
        agreement = params.shipping.agreement
        found = find_agreement(self.judged, agreement, confidence) if confidence else self._find_plain(agreement)
        threshold = 2.0
        if found is not None:
            share = float((self.judged.certainty >= found).mean())
            threshold = float(np.quantile(self.uncoded, 1 - share)) if len(self.uncoded) >= 50 else found
        calibration = {"temperature": 1.0, "threshold": None, "ask_below": threshold}
        units = encode_groups(self.test)
        return measure_selective(self.classes, units, self.probabilities, calibration, params.evaluation.confidence)

    def _find_plain(self, agreement: float) -> float | None:
        order = np.argsort(-self.judged.certainty, kind="stable")
        kept = np.arange(1, len(order) + 1)
        enough = kept[(np.cumsum(self.judged.right[order]) >= agreement * kept - 1e-9) & (kept >= _FEWEST)]
        return float(self.judged.certainty[order[enough[-1] - 1]]) if len(enough) else None


def draw_task(name: str, data: Path, params: Params, draws: int) -> Iterator[tuple[int, Draw]]:
    """Yield each draw with its number of human rows; skip draws that cannot be split that way."""
    rows, labels = load_rows(name, data).main, load_task(Path("bench/tasks") / name).label_names
    rows = rows.sample(min(len(rows), _MOST), random_state=0).reset_index(drop=True)
    vectors = dict(zip(rows["id"], embed_rows(ENCODER, rows, max_length=params.teacher.max_length), strict=True))
    for size in SIZES:
        for seed in range(draws):
            try:
                tables = split_task(rows, size, seed, params)
            except DataError:
                continue
            human = pd.concat([tables["train"], tables["validation"]], ignore_index=True)
            parts = [human, tables["unlabelled"], tables["test"]]
            embedded = [np.stack([vectors[row] for row in part["id"]]) for part in parts if len(part)]
            yield size, make_draw(human, tables, embedded, labels, params)


def make_draw(
    human: pd.DataFrame, tables: dict[str, pd.DataFrame], embedded: list[np.ndarray], labels: list[str], params: Params
) -> Draw:
    """Label the human rows out of fold, and texts and test rows with a classifier of all human rows."""
    classes, units = index_labels(human, labels), find_units(human)
    dealt = deal_folds(classes, units, min(FOLDS, len(np.unique(units))))
    logits = np.zeros((len(human), len(labels)))
    for fold in np.unique(dealt):
        out = dealt == fold
        logits[out] = fit_and_score(embedded[0][~out], classes[~out], embedded[0][out], len(labels))
    said = soften(logits)
    texts = [soften(fit_and_score(embedded[0], classes, part, len(labels))) for part in embedded[1:]]
    uncoded = texts[0].max(axis=1) if len(texts) > 1 else np.zeros(0)
    judged = Judged(said.max(axis=1), said.argmax(axis=1) == classes, units)
    return Draw(judged, uncoded, tables["test"], index_labels(tables["test"], labels), texts[-1])


def main(data: Path, tasks: list[str], draws: int) -> None:
    """Draw, then print the table."""
    params = load_params(Path("params.yaml"))
    found: dict[tuple[int, float], list[dict[str, float]]] = {}
    for task in tasks:
        for size, drawn in draw_task(task, data, params, draws):
            for confidence in CONFIDENCES:
                found.setdefault((size, confidence), []).append(drawn.measure(confidence, params))
    print("| human rows | confidence | draws | ask about every row | labelled alone | agreement there | wholly below |")
    print("|---|---|---|---|---|---|---|")
    for (size, confidence), several in sorted(found.items()):
        agreed = [one for one in several if "agreement" in one]
        short = sum(one["agreement_high"] < params.shipping.agreement for one in agreed)
        alone = np.mean([one["coverage"] for one in several])
        agreement = f"{np.mean([one['agreement'] for one in agreed]):.3f}" if agreed else "-"
        cells = f"{1 - len(agreed) / len(several):.0%} | {alone:.1%} | {agreement} | {short / len(several):.1%}"
        print(f"| {size} | {confidence or 'no bound'} | {len(several)} | {cells} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with TASK/responses.csv")
    parser.add_argument("--tasks", nargs="+", default=[*TASKS, *MORE_TASKS])
    parser.add_argument("--draws", type=int, default=20)
    args = parser.parse_args()
    main(args.data, args.tasks, args.draws)
