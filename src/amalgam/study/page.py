"""A study's results as files: charts, tables, numbers for `dvc metrics diff`, and one page."""

import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import altair as alt
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from amalgam.files import open_sibling, write_json, write_text
from amalgam.report.charts import BLUE, GREY, ORANGE, build_figure
from amalgam.study.grid import VARIED, Experiment
from amalgam.study.results import PAPER, Finding

TITLES: dict[Experiment, str] = {
    "size": "Synthetic share of the rows that are learned",
    "variety": "Temperature",
    "consistency": "Filter",
    "scarcity": "Human-coded rows",
    "paper": "Synthetic rows",
    "time": "Split",
}
_COLOURS = [BLUE, ORANGE, "#9a63c4", "#129a7d", "#d1477f", "#6b7a12"]
_SHOWN = ["task", "series", "x", "auc", "human_only", "gain", "p_corrected", "wins", "guard_helps", "seeds"]


def draw_experiment(rows: pd.DataFrame, experiment: Experiment) -> dict[str, Any]:
    """Draw AUC against what the experiment varies: a panel a task, a line a series, human rows alone as a band."""
    kind = "N" if VARIED[experiment] in ("filter", "split") else "Q"
    scale = alt.Scale(type="log") if experiment == "scarcity" else alt.Scale(zero=False, padding=12)
    axis = alt.Axis(values=sorted(set(rows["x"]))) if kind == "Q" and len(set(rows["x"])) < 8 else alt.Axis()
    x = alt.X("x:N", title=TITLES[experiment], sort=None) if kind == "N" else None
    x = x or alt.X("x:Q", title=TITLES[experiment], scale=scale, axis=axis)
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
    values: Any = rows.astype({"x": float} if kind == "Q" else {}).to_dict("records")
    panels = alt.layer(*layers, data=alt.InlineData(values)).properties(width=330, height=230)
    several = rows["task"].nunique() > 1
    chart: Any = panels.facet(alt.Facet("task:N", title=None, sort=None), columns=2) if several else panels
    spec: dict[str, Any] = chart.properties(background="transparent").configure_view(stroke=None).to_dict()
    return spec


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
        shown = rows[_SHOWN].rename(columns={"x": VARIED[experiment]})
        latex = shown.to_latex(index=False, escape=True, float_format="%.3f", caption=TITLES[experiment])
        write_text(charts / f"{experiment}.tex", latex)
        caption = "Lines are means over seeds with their intervals, the band is human rows alone."
        figure = build_figure(experiment, f"AUC by {TITLES[experiment].lower()}", caption, spec)
        said = [str(finding) for finding in findings if finding.experiment == experiment]
        sections.append((experiment, TITLES[experiment], said or [f"The paper: {PAPER[experiment]}."], figure, shown))
    plotted = points.rename(columns={"auc": "value", "auc_low": "low", "auc_high": "high"})
    if len(points):
        plotted["metric"] = plotted["experiment"] + ", " + plotted["task"]
        plotted["name"] = plotted["x"].astype(str) + " " + plotted["series"]
    write_text(metrics.with_suffix(".csv"), plotted.to_csv(index=False, lineterminator="\n"))
    failed = table[table["fault"] != ""]
    write_json(metrics, {"cells": {"all": len(table), "failed": len(failed)}} | gather_metrics(points))
    environment = Environment(loader=PackageLoader("amalgam.study", "."), autoescape=True, undefined=StrictUndefined)
    style = Markup(files("amalgam.report").joinpath("style.css").read_text("utf-8"))
    template = environment.get_template("page.html.j2")
    faults = failed.groupby("fault").size().sort_values(ascending=False).to_dict()
    write_text(page, template.render(sections=sections, faults=faults, cells=len(table), style=style))


def gather_metrics(points: pd.DataFrame) -> dict[str, Any]:
    """Return AUC and gain of each point by experiment, task and value, under names that DVC can compare."""
    found: dict[str, Any] = {}
    for row in points.to_dict("records"):
        place = found.setdefault(row["experiment"], {}).setdefault(row["task"], {})
        name = re.sub(r"\W+", "_", f"{VARIED[row['experiment']]}_{row['x']} {row['series']}").strip("_")
        place[name] = {key: row[key] for key in ("auc", "gain", "gain_low", "gain_high")}
    return found
