"""Results of a study as files and a page: points compared with human rows alone, the best setting, findings.

A finding is a claim of the paper, or a question that it left open, with the difference that decides it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal, get_args

import altair as alt
import numpy as np
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from amalgam.evaluation import bootstrap
from amalgam.evaluation.bootstrap import Estimate, correct_p_values, find_interval, find_p_value, subtract
from amalgam.files import open_sibling, write_json, write_text
from amalgam.report.charts import BLUE, GREY, ORANGE, build_figure
from amalgam.study.cells import stack_members
from amalgam.study.engine import Store
from amalgam.study.grid import VARIED, Experiment, read_once

_TWIN = ["task", "split", "human_rows", "recipe"]  # what a setting shares with its human-only teacher
_SETTING = [*_TWIN, "ratio", "synthetic", "llm", "temperature", "filter"]
_BESIDE = ["llm", "temperature", "filter", "human_rows", "split", "recipe"]  # what splits a chart into lines
_CERTAIN, _NOTHING = 0.05, 0.01  # p-value; gain in AUC that nobody would notice
PAPER: dict[Experiment, str] = {
    "size": "best at 80 % synthetic rows, up from an AUC of 0.744 with human rows alone",
    "variety": "stable, limited gains at 0.3; more variance from 0.7 on, and at times lower AUC",
    "consistency": "the consistency filter did not help",
    "scarcity": "only one number of human rows",
    "paper": "one seed, a checkpoint chosen by the test rows, more steps for more rows",
    "time": "not studied",
}
TITLES: dict[Experiment, str] = {
    "size": "Synthetic share of the training rows",
    "variety": "Temperature",
    "consistency": "Filter",
    "scarcity": "Human-coded rows",
    "paper": "Synthetic rows",
    "time": "Split",
}
_COLOURS = [BLUE, ORANGE, "#9a63c4", "#129a7d", "#d1477f", "#6b7a12"]
_SHOWN = ["task", "series", "x", "auc", "human_only", "gain", "p_corrected", "wins", "guard_helps", "seeds"]
Verdict = Literal["holds here", "does not hold here", "inconclusive"]


@dataclass(frozen=True, slots=True)
class Point:
    """A setting over its seeds: its place in its chart, and its AUC next to that of human rows alone."""

    experiment: Experiment
    task: str
    series: str  # what else differs between the points of the experiment
    x: Any
    auc: Estimate
    twin: Estimate
    helps: float  # how often the guard would have let the synthetic rows in

    @property
    def gain(self) -> Estimate:
        """The paired difference from human rows alone."""
        return subtract(self.auc, self.twin)


@dataclass(frozen=True, slots=True)
class Finding:
    """A claim, the size of its difference over the tasks, and the verdict."""

    experiment: Experiment
    claim: str
    tasks: int
    value: float
    low: float
    high: float
    p: float  # corrected for the number of findings
    verdict: Verdict

    def __str__(self) -> str:
        """Write it as a sentence, together with the paper's own result."""
        over = "" if self.tasks == 1 else f" on average over {self.tasks} tasks"
        found = f"{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}] in AUC{over}, p = {self.p:.3f}"
        return f"{self.claim}: {self.verdict} ({found}). The paper: {PAPER[self.experiment]}."


def list_points(table: pd.DataFrame, rows: Path, store: Store, labels: Mapping[str, list[str]]) -> list[Point]:
    """Estimate every setting of every experiment; seeds that a setting or its twin lacks are left out.

    `rows` is the folder with the split rows, `store` has the results of parts, and `labels` the labels of each task.
    """
    known: dict[tuple[str, ...], Estimate] = {}

    def estimate(cells: pd.DataFrame) -> Estimate:
        name = (*cells["contrast_key"], *cells["entropy_key"])
        if name not in known:
            one = cells.iloc[0]
            test = read_once(rows / f"{one['task']}-{one['human_rows']}-{one['split']}" / "test.csv")
            actual = bootstrap.encode_labels(test, labels[one["task"]], "the test rows")
            resamples = bootstrap.draw_resamples(actual, bootstrap.encode_groups(test))
            stack = stack_members(store, cells)
            known[name] = bootstrap.estimate_metrics(actual, stack, resamples, ordinal=False, names=["auc"])["auc"]
        return known[name]

    points = []
    for experiment, varied in VARIED.items():
        named = table["experiments"].map(lambda names, name=experiment: name in names.split()).astype(bool)
        cells = table[named & (table["fault"] == "")].sort_values("seed")
        tried = cells[cells["synthetic"] > 0]
        beside = [name for name in _BESIDE if name != varied and tried[name].nunique() > 1]
        if varied in ("temperature", "filter") and tried["ratio"].nunique() > 1:
            beside.append("ratio")
        for values, own in tried.groupby(_SETTING):
            setting: dict[str, Any] = dict(zip(_SETTING, values, strict=True))
            own = own.drop_duplicates("seed")  # a ratio and a number of rows may be the same mix
            twins = cells[(cells["synthetic"] == 0) & (cells[_TWIN] == own[_TWIN].iloc[0]).all(axis=1)]
            twins, own = twins[twins["seed"].isin(own["seed"])], own[own["seed"].isin(twins["seed"])]
            if len(own):
                series = ", ".join(f"{name} {setting[name]}" for name in beside)
                place = experiment, setting["task"], series, setting[varied]
                points.append(Point(*place, estimate(own), estimate(twins), float(own["guard_helps"].mean())))
    return points


def _group_points(points: Sequence[Point]) -> dict[tuple[Experiment, str, str], list[Point]]:
    """Return the points of each line of a chart."""
    lines: dict[tuple[Experiment, str, str], list[Point]] = {}
    for point in points:
        lines.setdefault((point.experiment, point.task, point.series), []).append(point)
    return lines


def tabulate_points(points: Sequence[Point], confidence: float) -> pd.DataFrame:
    """Return a row per point: AUC, that of human rows alone, their difference with its corrected p-value, and `wins`.

    `wins` is the share of bootstrap resamples, of seeds and test rows, in which the point is the best of its line and
    better than human rows alone. It is NaN where the points of a line have different test rows.
    """
    wins: dict[int, float] = {}  # by the identity of a point
    for (experiment, *_), line in _group_points(points).items():
        if VARIED[experiment] == "split":
            continue
        twins = {id(point.twin): point.twin for point in line}.values()
        rivals = [*twins, *(point.auc for point in line)]
        seeds = min(len(one.points) for one in rivals)
        drawn = np.random.default_rng(bootstrap.SEED).integers(seeds, size=(len(rivals[0].resampled), seeds))
        best = np.argmax([np.take_along_axis(one.resampled, drawn, axis=1).mean(axis=1) for one in rivals], axis=0)
        wins |= {id(point): float((best == place).mean()) for place, point in enumerate(line, start=len(twins))}
    rows = []
    for point in points:
        row: dict[str, Any] = {"experiment": point.experiment, "task": point.task, "series": point.series}
        row |= {"x": point.x, "seeds": len(point.auc.points), "guard_helps": round(point.helps, 2)}
        for name, one in (("auc", point.auc), ("human_only", point.twin), ("gain", point.gain)):
            low, high = find_interval(one, confidence)
            row |= {name: round(one.value, 4), f"{name}_low": round(low, 4), f"{name}_high": round(high, 4)}
        rows.append(row | {"wins": round(wins.get(id(point), np.nan), 3), "p": find_p_value(point.gain)})
    table = pd.DataFrame(rows)
    if len(table):
        table["p_corrected"] = table.groupby("experiment")["p"].transform(lambda p: correct_p_values(list(p)))
    return table


def list_findings(points: Sequence[Point], confidence: float) -> list[Finding]:
    """Judge the paper's claims and open questions by the points."""
    claims: dict[tuple[Experiment, str], dict[str, list[Estimate]]] = {}
    for (experiment, task, _), line in _group_points(points).items():
        for claim, one, other in _compare_line(experiment, {point.x: point for point in line}):
            if len(one.points) == len(other.points):  # seeds of failed cells have no pair
                claims.setdefault((experiment, claim), {}).setdefault(task, []).append(subtract(one, other))
    found = {place: _average([*map(_pool, of.values())], confidence) for place, of in claims.items()}
    corrected = correct_p_values([p for *_, p in found.values()])
    return [
        Finding(*place, len(claims[place]), value, low, high, p, _judge(value, high, p, place[0]))
        for (place, (value, low, high, _)), p in zip(found.items(), corrected, strict=True)
    ]


def _compare_line(experiment: Experiment, by_x: Mapping[Any, Point]) -> Iterator[tuple[str, Estimate, Estimate]]:
    """Yield the claims about a line of a chart, each with two estimates; the first minus the second decides it."""
    least, most = by_x[min(by_x)], by_x[max(by_x)]
    if experiment == "size":
        nearest = by_x[min(by_x, key=lambda x: abs(x - 0.8))]
        if abs(nearest.x - 0.8) < 0.01:
            yield "80 % synthetic rows give a higher AUC than human rows alone", nearest.auc, nearest.twin
    elif experiment == "variety" and 0.3 in by_x and most.x > 0.3:
        yield f"Temperature 0.3 is better than {most.x:g}", by_x[0.3].auc, most.auc
    elif experiment == "consistency" and "none" in by_x:
        for name in sorted(set(by_x) - {"none"}):
            yield f"The filter `{name}` does not help", by_x[name].auc, by_x["none"].auc
    elif experiment == "scarcity" and least is not most:
        yield f"Synthetic rows help {least.x} human rows more than {most.x}", least.gain, most.gain
    elif experiment == "time" and "time" in by_x:
        yield "On later rows, synthetic rows raise the AUC over human rows alone", by_x["time"].auc, by_x["time"].twin
    elif experiment == "paper":
        yield f"{most.x} synthetic rows raise the AUC, {most.series}".removesuffix(", "), most.auc, most.twin


def _pool(differences: Sequence[Estimate]) -> Estimate:
    """Return the mean of a task's differences: lines that share its test rows are one piece of evidence."""
    seeds = min(len(one.points) for one in differences)
    points = np.mean([one.points[:seeds] for one in differences], axis=0)
    resampled = np.mean([one.resampled[:, :seeds] for one in differences], axis=0)
    return replace(differences[0], points=points, resampled=resampled)


def _average(differences: Sequence[Estimate], confidence: float) -> tuple[float, float, float, float]:
    """Return mean, interval and p-value: over seeds and test rows for one task, over tasks for more (Student's t)."""
    values = [one.value for one in differences]
    if len(values) == 1:
        return values[0], *find_interval(differences[0], confidence), find_p_value(differences[0])
    from scipy.stats import ttest_1samp

    if np.ptp(values) == 0:
        return values[0], values[0], values[0], float(values[0] == 0)
    tested = ttest_1samp(values, 0.0)
    low, high = tested.confidence_interval(confidence)
    return float(np.mean(values)), float(low), float(high), float(tested.pvalue)


def _judge(value: float, high: float, p: float, experiment: Experiment) -> Verdict:
    if experiment == "consistency" and not (p < _CERTAIN and value > 0):  # the claim is that there is no gain
        return "holds here" if high < _NOTHING else "inconclusive"
    if p >= _CERTAIN:
        return "inconclusive"
    return "holds here" if (value > 0) == (experiment != "consistency") else "does not hold here"


def write_results(
    points: pd.DataFrame, findings: Sequence[Finding], table: pd.DataFrame, charts: Path, page: Path, metrics: Path
) -> None:
    """Write SVG, PDF and LaTeX into `charts`, the page, and the numbers that Git tracks as JSON and CSV."""
    import vl_convert

    sections = []
    for experiment in get_args(Experiment):
        rows = points[points["experiment"] == experiment] if len(points) else points
        if rows.empty:
            continue
        spec = draw_experiment(rows, experiment)
        write_text(charts / f"{experiment}.svg", vl_convert.vegalite_to_svg(spec, vl_version="6.4"))
        with open_sibling(charts / f"{experiment}.pdf", binary=True) as stream:
            stream.write(vl_convert.vegalite_to_pdf(spec, vl_version="6.4"))
        shown = rows[_SHOWN].dropna(axis="columns", how="all").rename(columns={"x": VARIED[experiment]})
        latex = shown.to_latex(index=False, escape=True, float_format="%.3f", caption=TITLES[experiment])
        write_text(charts / f"{experiment}.tex", latex)
        caption = "Lines are means over seeds with their intervals; the band is human rows alone."
        figure = build_figure(experiment, f"AUC by {TITLES[experiment].lower()}", caption, spec)
        said = [str(finding) for finding in findings if finding.experiment == experiment]
        sections.append((experiment, TITLES[experiment], said or [f"The paper: {PAPER[experiment]}."], figure, shown))
    plotted = points.rename(columns={"auc": "value", "auc_low": "low", "auc_high": "high"})
    if len(points):
        plotted["metric"] = plotted["experiment"] + ", " + plotted["task"]
        plotted["name"] = plotted["x"].astype(str) + " " + plotted["series"]
    write_text(metrics.with_suffix(".csv"), plotted.to_csv(index=False, lineterminator="\n"))
    failed = table[table["fault"] != ""]
    numbers: dict[str, Any] = {"cells": {"all": len(table), "failed": len(failed)}}
    for row in points.to_dict("records"):
        name = re.sub(r"\W+", "_", f"{VARIED[row['experiment']]}_{row['x']} {row['series']}").strip("_")
        place = numbers.setdefault(row["experiment"], {}).setdefault(row["task"], {})
        place[name] = {key: row[key] for key in ("auc", "gain", "gain_low", "gain_high")}
    write_json(metrics, numbers)
    environment = Environment(loader=PackageLoader("amalgam.study", "."), autoescape=True, undefined=StrictUndefined)
    style = Markup(files("amalgam.report").joinpath("style.css").read_text("utf-8"))
    template = environment.get_template("page.html.j2")
    faults = failed.groupby("fault").size().sort_values(ascending=False).to_dict()
    write_text(page, template.render(sections=sections, faults=faults, cells=len(table), style=style))


def draw_experiment(rows: pd.DataFrame, experiment: Experiment) -> dict[str, Any]:
    """Draw AUC against what the experiment varies: a panel per task, a line per series, human rows alone as a band."""
    title, is_name = TITLES[experiment], VARIED[experiment] in ("filter", "split")
    if is_name:
        x = alt.X("x:N", title=title, sort=None)
    else:
        scale = alt.Scale(type="log") if experiment == "scarcity" else alt.Scale(zero=False, padding=12)
        axis = alt.Axis(values=sorted(set(rows["x"]))) if len(set(rows["x"])) < 8 else alt.Axis()
        x = alt.X("x:Q", title=title, scale=scale, axis=axis)
    legend = alt.Legend(title=None, orient="bottom") if rows["series"].nunique() > 1 else None
    colour = alt.Color("series:N", scale=alt.Scale(range=_COLOURS), legend=legend)
    auc = alt.Y("auc:Q", title="AUC", scale=alt.Scale(zero=False))
    base = alt.Chart().encode(x=x)
    layers = [
        base.mark_area(color=GREY, opacity=0.25).encode(alt.Y("human_only_low:Q", title="AUC"), y2="human_only_high:Q"),
        base.mark_line(color=GREY, strokeDash=[5, 3]).encode(y="human_only:Q"),
        base.mark_rule(strokeWidth=1.5).encode(alt.Y("auc_low:Q"), y2="auc_high:Q", color=colour),
        base.mark_line(opacity=0.7).encode(y=auc, color=colour),
        base.mark_point(filled=True, size=60, opacity=1).encode(y=auc, color=colour),
    ]
    values: Any = rows.astype({} if is_name else {"x": float}).to_dict("records")
    panels = alt.layer(*layers, data=alt.InlineData(values)).properties(width=330, height=230)
    several = rows["task"].nunique() > 1
    chart: Any = panels.facet(alt.Facet("task:N", title=None, sort=None), columns=2) if several else panels
    spec: dict[str, Any] = chart.properties(background="transparent").configure_view(stroke=None).to_dict()
    return spec
