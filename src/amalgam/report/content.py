"""What goes into the page: the content of a run, and the tables and figures that its sections show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup

from amalgam.report.phrases import Numbers, format_share

Cell = str | tuple[str, str]  # text, and smaller text below it


@dataclass(frozen=True, slots=True, kw_only=True)
class Content:
    """What the page is made from; a section without data is left out."""

    title: str  # of the task, as are the next four
    response: str
    licence: str
    citation: str
    labels: Mapping[str, str]  # each label's definition, in class order
    params: Numbers  # nested, as in params.yaml
    metrics: Mapping[str, Any]  # the files of metrics/, by name
    plots: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # the tables of metrics/plots, by name
    pool: pd.DataFrame = field(default_factory=pd.DataFrame)  # responses of the LLM, kept and rejected
    mistakes: pd.DataFrame = field(default_factory=pd.DataFrame)  # see `list_mistakes`
    base_models: Mapping[str, Numbers] = field(default_factory=dict)  # what identifies them, by role
    inputs: Mapping[str, str] = field(default_factory=dict)  # SHA-256 of files, by path
    versions: Mapping[str, str] = field(default_factory=dict)  # of Python and packages

    @property
    def confidence(self) -> str:
        """The confidence of all intervals, as text."""
        return format_share(self.params["evaluation"]["confidence"])

    def select(self, plot: str, column: str, value: str) -> pd.DataFrame:
        """Return the rows of a plot that have a value in a column."""
        rows = self.plots.get(plot, pd.DataFrame({column: []}))
        return rows[rows[column] == value]


class Table(NamedTuple):
    """A table whose first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Figure(NamedTuple):
    """A chart, how to read it, and its numbers where no other table of the page has them."""

    caption: str
    svg: Markup
    numbers: Table | None


class Browser(NamedTuple):
    """A table to search, filter and page through."""

    key: str  # begins the ids of its elements
    caption: str
    head: Sequence[str]
    filters: Mapping[str, Sequence[str]]  # options by name
    data: Sequence[tuple[Sequence[Cell], Sequence[int]]]  # of each row, its cells and its option in each filter
