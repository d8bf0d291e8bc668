"""What the page is made of, as plain values."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from amalgam.report.browser import Browser
from amalgam.report.phrases import Numbers

Rows = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Content:
    """All that the page says; what is empty is left out of it.

    Attributes:
        title: of the task, as are `response`, `licence` and `citation`.
        labels: each label and its definition, in class order.
        params: nested, as in params.yaml.
        models: metrics/models.json, as `comparisons` to `selective` are the files of their names.
        plots: the rows of metrics/plots by name.
        synthetic_rows: those to look through, as `mistakes` are.
        base_models: what identifies them, by role.
        inputs: SHA-256 of the files that decide the result, by path.
        versions: of Python and packages.
        sweeps: by param, points of experiments beside this run; see `collect_sweeps`.
        likeness: by param, what the synthetic rows of experiments were like; see `collect_likeness`.
    """

    title: str
    response: str
    licence: str
    citation: str
    labels: Mapping[str, str]
    params: Numbers
    models: Numbers
    comparisons: Numbers
    data: Numbers
    synthetic: Numbers
    training: Numbers
    speed: Numbers
    summary: Numbers
    cost: Numbers = field(default_factory=dict)
    ceiling: Numbers = field(default_factory=dict)
    subgroups: Numbers = field(default_factory=dict)
    periods: Numbers = field(default_factory=dict)
    selective: Numbers = field(default_factory=dict)
    plots: Mapping[str, Rows] = field(default_factory=dict)
    synthetic_rows: Browser | None = None
    mistakes: Browser | None = None
    base_models: Mapping[str, Numbers] = field(default_factory=dict)
    inputs: Mapping[str, str] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    sweeps: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    likeness: Mapping[str, list[dict[str, float]]] = field(default_factory=dict)
