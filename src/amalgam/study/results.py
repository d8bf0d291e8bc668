"""What a study says: points with intervals, differences to human rows alone, the best setting, and what holds."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from amalgam.evaluation import bootstrap
from amalgam.evaluation.bootstrap import Estimate, correct_p_values, encode_groups, encode_labels
from amalgam.study.grid import VARIED, Experiment

_TWIN = ["task", "split", "human_rows", "recipe"]  # what a setting shares with its human-only teacher
_SETTING = [*_TWIN, "ratio", "synthetic", "llm", "temperature", "filter"]
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
Verdict = Literal["holds here", "does not hold here", "cannot be told"]


@dataclass(frozen=True, slots=True)
class Point:
    """A setting over its seeds: where it stands in its chart, and its AUC beside that of human rows alone."""

    experiment: Experiment
    task: str
    series: str  # what else differs between the points of the experiment
    x: Any
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
        over = "" if self.tasks == 1 else f" on average over {self.tasks} settings"
        found = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] of AUC{over}, p = {self.p:.3f}"
        return f"{self.claim}: {self.verdict} ({found}). The paper: {PAPER[self.experiment]}."


def list_points(
    table: pd.DataFrame,
    read_test: Callable[[pd.Series], pd.DataFrame],
    labels: Mapping[str, list[str]],
    stack: Callable[[pd.DataFrame], np.ndarray],
) -> list[Point]:
    """Estimate every setting of every experiment; seeds that a setting or its twin lacks are left out.

    Args:
        table: of results.
        read_test: reads the test rows of a row of the table.
        labels: of each task, in class order.
        stack: reads the probabilities [rows of the table, test rows, classes].
    """
    known: dict[tuple[str, ...], Estimate] = {}

    def estimate(rows: pd.DataFrame) -> Estimate:
        name = (*rows["contrast_key"], *rows["entropy_key"])
        if name not in known:
            test = read_test(rows.iloc[0])
            actual = encode_labels(test, labels[rows["task"].iloc[0]], "the test rows")
            resamples = bootstrap.draw_resamples(actual, encode_groups(test))
            found = bootstrap.estimate_metrics(actual, stack(rows), resamples, ordinal=False, names=["auc"])
            known[name] = found["auc"]
        return known[name]

    points = []
    for experiment in get_args(Experiment):
        named = table["experiments"].map(lambda names, name=experiment: name in names.split()).astype(bool)
        rows, varied = table[named & (table["fault"] == "")].sort_values("seed"), VARIED[experiment]
        tried = rows[rows["synthetic"] > 0]
        beside = [name for name in _BESIDE if name != varied and tried[name].nunique() > 1]
        if varied in ("temperature", "filter") and tried["ratio"].nunique() > 1:
            beside.append("ratio")
        for values, own in tried.groupby(_SETTING):
            setting: dict[str, Any] = dict(zip(_SETTING, values, strict=True))
            twins = rows[(rows["synthetic"] == 0) & (rows[_TWIN] == own[_TWIN].iloc[0]).all(axis=1)]
            twins, own = twins[twins["seed"].isin(own["seed"])], own[own["seed"].isin(twins["seed"])]
            if len(own):
                series = ", ".join(f"{name} {setting[name]}" for name in beside)
                place = experiment, setting["task"], series, setting[varied]
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
            low, high = bootstrap.find_interval(one, confidence)
            line |= {name: round(one.value, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
        lines.append(line | {"wins": round(wins[number], 3), "p": bootstrap.find_p_value(point.gain)})
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
        drawn = np.random.default_rng(bootstrap.SEED).integers(seeds, size=(len(rivals[0].resampled), seeds))
        best = np.argmax([np.take_along_axis(one.resampled, drawn, axis=1).mean(axis=1) for one in rivals], axis=0)
        shares |= {number: float((best == place).mean()) for place, number in enumerate(numbers, start=1)}
    return shares


def list_findings(points: Sequence[Point], confidence: float) -> list[Finding]:
    """Judge what the paper found, and what it left open, by the points; p-values are corrected for their number."""
    lines: dict[tuple[Experiment, str, str], dict[Any, Point]] = {}
    for point in points:
        lines.setdefault((point.experiment, point.task, point.series), {})[point.x] = point
    claims: dict[tuple[Experiment, str], list[Estimate]] = {}
    for (experiment, *_), by_x in lines.items():
        for claim, one, other in _compare_line(experiment, by_x):
            if len(one.points) == len(other.points):  # seeds of failed cells pair with nothing
                claims.setdefault((experiment, claim), []).append(_subtract(one, other))
    found = {place: _average(differences, confidence) for place, differences in claims.items()}
    corrected = correct_p_values([p for *_, p in found.values()])
    return [
        Finding(*place, len(claims[place]), value, low, high, p, _judge(value, high, p, place[0]))
        for (place, (value, low, high, _)), p in zip(found.items(), corrected, strict=True)
    ]


def _compare_line(experiment: Experiment, by_x: Mapping[Any, Point]) -> Iterator[tuple[str, Estimate, Estimate]]:
    """Yield the claims that a line of a chart is about, and two estimates of which the first is to be higher."""
    least, most = by_x[min(by_x)], by_x[max(by_x)]
    if experiment == "size":
        for x in (x for x in by_x if abs(x - 0.8) < 0.01):
            yield "80 % synthetic rows give a higher AUC than human rows alone", by_x[x].auc, by_x[x].twin
    elif experiment == "variety" and 0.3 in by_x and most.x > 0.3:
        yield f"Temperature 0.3 is better than {most.x:g}", by_x[0.3].auc, most.auc
    elif experiment == "consistency" and "none" in by_x:
        for name in sorted(set(by_x) - {"none"}):
            yield f"The filter `{name}` does not help", by_x[name].auc, by_x["none"].auc
    elif experiment == "scarcity" and least is not most:
        yield f"Synthetic rows bring more to {least.x} human rows than to {most.x}", least.gain, most.gain
    elif experiment == "time" and "time" in by_x:
        yield "On later rows, synthetic ones bring more than human rows alone", by_x["time"].auc, by_x["time"].twin
    elif experiment == "paper":
        yield f"{most.x} synthetic rows raise the AUC, {most.series}", most.auc, most.twin


def _average(differences: Sequence[Estimate], confidence: float) -> tuple[float, float, float, float]:
    """Return mean, interval and p-value: of seeds and test rows for one task, of tasks for several (Student's t)."""
    values = [one.value for one in differences]
    if len(values) == 1:
        return values[0], *bootstrap.find_interval(differences[0], confidence), bootstrap.find_p_value(differences[0])
    from scipy.stats import ttest_1samp

    if np.ptp(values) == 0:
        return values[0], values[0], values[0], float(values[0] == 0)
    tested = ttest_1samp(values, 0.0)
    low, high = tested.confidence_interval(confidence)
    return float(np.mean(values)), float(low), float(high), float(tested.pvalue)


def _judge(value: float, high: float, p: float, experiment: Experiment) -> Verdict:
    if experiment == "consistency" and not (p < _CERTAIN and value > 0):  # the claim is that there is no gain
        return "holds here" if high < _NOTHING else "cannot be told"
    if p >= _CERTAIN:
        return "cannot be told"
    return "holds here" if (value > 0) == (experiment != "consistency") else "does not hold here"


def _subtract(first: Estimate, second: Estimate) -> Estimate:
    return bootstrap.subtract_estimates({"auc": first}, {"auc": second}, ("auc",))["auc"]
