"""What a study says: points with intervals, differences to human rows alone, the best setting, and what holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from amalgam.evaluation.bootstrap import (
    SEED,
    Estimate,
    draw_resamples,
    estimate_metrics,
    find_interval,
    find_p_value,
    subtract_estimates,
)
from amalgam.evaluation.compare import encode_groups, encode_labels
from amalgam.review.paired import correct_p_values
from amalgam.study.grid import VARIED, Experiment

_SETTING = ["task", "split", "human_rows", "recipe", "ratio", "synthetic", "llm", "temperature", "filter"]
_BESIDE = ["llm", "temperature", "filter", "human_rows", "split", "recipe"]  # what makes another line of a chart
_CERTAIN, _NOTHING = 0.05, 0.01  # p-value; gain in AUC that nobody would notice
PAPER: dict[Experiment, str] = {
    "size": "best at 80 % synthetic rows, from an AUC of 0.744 with human rows alone",
    "variety": "stable, limited gains at 0.3; more variance from 0.7 on, and at times lower AUC",
    "consistency": "the consistency filter did not help",
    "scarcity": "one number of human rows alone",
    "paper": "one seed, a checkpoint chosen by the test rows, more steps for more rows",
    "time": "not looked at",
}

Stack = Callable[[pd.DataFrame], np.ndarray]  # probabilities [seeds, rows, classes] of rows of the table
Verdict = Literal["holds here", "does not hold here", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Point:
    """A setting over its seeds: where it stands in its chart, and its AUC beside that of human rows alone."""

    experiment: Experiment
    task: str
    series: str  # what else differs between the points of the experiment
    x: float | str
    setting: Mapping[str, Any]
    auc: Estimate
    twin: Estimate
    helps: float  # how often the guard would have let the synthetic rows in

    @property
    def gain(self) -> Estimate:
        """The paired difference to human rows alone."""
        return _subtract(self.auc, self.twin)


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim, by how much it is so over the tasks, and what follows."""

    experiment: Experiment
    claim: str
    tasks: int
    value: float
    low: float
    high: float
    p: float  # corrected for the number of findings
    verdict: Verdict

    def __str__(self) -> str:
        """Say it in a sentence, beside the paper's own figure."""
        over = "" if self.tasks == 1 else f" on average over {self.tasks} tasks"
        found = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] of AUC{over}, p = {self.p:.3f}"
        return f"{self.claim}: {self.verdict} ({found}). The paper: {PAPER[self.experiment]}."


def list_points(
    table: pd.DataFrame,
    read_test: Callable[[Mapping[str, Any]], pd.DataFrame],
    labels: Mapping[str, list[str]],
    stack: Stack,
) -> list[Point]:
    """Estimate every setting of every experiment; seeds that a setting or its twin lacks are left out.

    Args:
        table: of results.
        read_test: reads the test rows of a row of the table.
        labels: of each task, in class order.
        stack: reads the probabilities of rows of the table.
    """
    known: dict[tuple[str, ...], Estimate] = {}

    def estimate(rows: pd.DataFrame) -> Estimate:
        name = (*rows["contrast_key"], *rows["entropy_key"])
        if name not in known:
            test = read_test({str(name): value for name, value in rows.iloc[0].items()})
            actual = encode_labels(test, labels[rows["task"].iloc[0]], "the test rows")
            resamples = draw_resamples(actual, encode_groups(test))
            found = estimate_metrics(actual, stack(rows), resamples, ordinal=False, names=["auc"])
            known[name] = found["auc"]
        return known[name]

    points = []
    done = table[table["fault"] == ""]
    for experiment in get_args(Experiment):
        rows = done[done["experiments"].str.split().map(lambda names: experiment in names)]  # noqa: B023
        tried = rows[rows["synthetic"] > 0]
        varied = VARIED[experiment]
        beside = [name for name in _BESIDE if name != varied and tried[name].nunique() > 1]
        if varied in ("temperature", "filter") and tried.drop_duplicates([varied, "ratio"])[varied].duplicated().any():
            beside.append("ratio")
        for values, own in tried.groupby(_SETTING, sort=True):
            setting: dict[str, Any] = dict(zip(_SETTING, values, strict=True))
            twins = rows[(rows["synthetic"] == 0) & (rows[_SETTING[:4]] == own[_SETTING[:4]].iloc[0]).all(axis=1)]
            seeds = sorted({*own["seed"]} & {*twins["seed"]})
            if not seeds:
                continue
            own, twins = (part[part["seed"].isin(seeds)].sort_values("seed") for part in (own, twins))
            series = ", ".join(f"{name} {setting[name]}" for name in beside)
            place = experiment, str(setting["task"]), series, setting[varied], setting
            points.append(Point(*place, estimate(own), estimate(twins), float(own["guard_helps"].mean())))
    return points


def tabulate_points(points: Sequence[Point], confidence: float) -> pd.DataFrame:
    """Return a line a point: AUC, that of human rows alone, their difference with its corrected p-value, and `wins`.

    `wins` is the share of bootstrap resamples, of seeds and test rows, in which the point is the best of its line; that
    of human rows alone is what is left of 1.
    """
    lines, wins = [], _count_wins(points)
    for number, point in enumerate(points):
        line: dict[str, Any] = {"experiment": point.experiment, "task": point.task, "series": point.series}
        line |= {"x": point.x, "seeds": len(point.auc.points), "guard_helps": round(point.helps, 2)}
        for name, one in (("auc", point.auc), ("human_only", point.twin), ("gain", point.gain)):
            low, high = find_interval(one, confidence)
            line |= {name: round(one.value, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
        lines.append(line | {"wins": round(wins[number], 3), "p": find_p_value(point.gain)})
    table = pd.DataFrame(lines)
    if len(table):
        table["p_corrected"] = table.groupby("experiment")["p"].transform(lambda p: correct_p_values(list(p)))
    return table


def _count_wins(points: Sequence[Point]) -> dict[int, float]:
    lines: dict[tuple[str, ...], list[int]] = {}
    for number, point in enumerate(points):
        lines.setdefault((point.experiment, point.task, point.series), []).append(number)
    shares: dict[int, float] = {}
    for numbers in lines.values():
        rivals = [points[numbers[0]].twin, *(points[number].auc for number in numbers)]
        seeds = min(len(one.points) for one in rivals)
        drawn = np.random.default_rng(SEED).integers(seeds, size=(len(rivals[0].resampled), seeds))
        best = np.argmax([np.take_along_axis(one.resampled, drawn, axis=1).mean(axis=1) for one in rivals], axis=0)
        shares |= {number: float((best == place).mean()) for place, number in enumerate(numbers, start=1)}
    return shares


def list_findings(points: Sequence[Point], confidence: float) -> list[Finding]:
    """Judge what the paper found, and what it left open, by the points; p-values are corrected for their number."""
    found = []
    for experiment, claim, differences in _list_claims(points):
        found.append((experiment, claim, len(differences), *_average(differences, confidence)))
    corrected = correct_p_values([one[-1] for one in found])
    findings = []
    for (experiment, claim, tasks, value, low, high, _), p in zip(found, corrected, strict=True):
        verdict = _judge(value, high, p, is_null=experiment == "consistency")
        findings.append(Finding(experiment, claim, tasks, value, low, high, p, verdict))
    return findings


def _judge(value: float, high: float, p: float, *, is_null: bool) -> Verdict:
    if is_null:  # the claim is that there is no gain
        if p < _CERTAIN and value > 0:
            return "does not hold here"
        return "holds here" if high < _NOTHING else "cannot be told"
    if p >= _CERTAIN:
        return "cannot be told"
    return "holds here" if value > 0 else "does not hold here"


def _list_claims(points: Sequence[Point]) -> Iterator[tuple[Experiment, str, list[Estimate]]]:
    """Yield the claims of each experiment, with the difference that each is about for every task and line."""
    lines: dict[Experiment, dict[tuple[str, str], dict[Any, Point]]] = {}
    for point in points:
        lines.setdefault(point.experiment, {}).setdefault((point.task, point.series), {})[point.x] = point
    for experiment, of_line in lines.items():
        claims: dict[str, list[Estimate]] = {}
        for by_x in of_line.values():
            for claim, difference in _compare_line(experiment, by_x):
                claims.setdefault(claim, []).append(difference)
        if experiment == "paper":
            claims = {}
            last = max(point.x for by_x in of_line.values() for point in by_x.values())
            for task in sorted({task for task, _ in of_line}):
                ends = [by_x.get(last) for (name, _), by_x in of_line.items() if name == task]
                gains = {one.setting["recipe"]: one.gain for one in ends if one}
                if len(gains) == 2:
                    claim = f"The authors' protocol shows a larger gain of {last} synthetic rows than ours"
                    claims.setdefault(claim, []).append(_subtract(gains["paper"], gains["amalgam"]))
        yield from ((experiment, claim, differences) for claim, differences in claims.items())


def _compare_line(experiment: Experiment, by_x: Mapping[Any, Point]) -> Iterator[tuple[str, Estimate]]:
    least, most = by_x[min(by_x)], by_x[max(by_x)]
    if experiment == "size" and (near := [x for x in by_x if abs(x - 0.8) < 0.01]):
        yield "With 80 % synthetic rows the AUC is higher than with human rows alone", by_x[near[0]].gain
    elif experiment == "variety" and 0.3 in by_x and most.x != 0.3:
        claim = f"Temperature 0.3 is better than {most.x:g}"
        yield claim, _subtract(by_x[0.3].auc, most.auc)
    elif experiment == "consistency" and "none" in by_x:
        for name in sorted(set(by_x) - {"none"}):
            yield f"The filter `{name}` does not help", _subtract(by_x[name].auc, by_x["none"].auc)
    elif experiment == "scarcity" and least is not most:
        claim = f"Synthetic rows bring more to {least.x} human rows than to {most.x}"
        yield claim, _subtract(least.gain, most.gain)
    elif experiment == "time" and "time" in by_x:
        yield "On later rows, synthetic ones bring more than human rows alone", by_x["time"].gain


def _average(differences: Sequence[Estimate], confidence: float) -> tuple[float, float, float, float]:
    """Return mean, interval and p-value: of seeds and test rows for one task, of tasks for several (Student's t)."""
    if len(differences) == 1:
        return differences[0].value, *find_interval(differences[0], confidence), find_p_value(differences[0])
    from scipy.stats import ttest_1samp

    values = [one.value for one in differences]
    if np.ptp(values) == 0:
        return values[0], values[0], values[0], float(values[0] == 0)
    tested = ttest_1samp(values, 0.0)
    low, high = tested.confidence_interval(confidence)
    return float(np.mean(values)), float(low), float(high), float(tested.pvalue)


def _subtract(first: Estimate, second: Estimate) -> Estimate:
    if len(first.points) != len(second.points):  # seeds that only one has pair with nothing
        seeds = min(len(first.points), len(second.points))
        first, second = (
            Estimate(one.points[:seeds], one.resampled[:, :seeds], one.independent, one.limits)
            for one in (first, second)
        )
    return subtract_estimates({"auc": first}, {"auc": second}, ("auc",))["auc"]
