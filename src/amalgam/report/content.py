"""Hold the contents of the page (a run, tables and figures), and format names and numbers as people write them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import pandas as pd
    from markupsafe import Markup

METRIC_NAMES = {
    "auc": "AUC",
    "macro_f1": "Macro-F1",
    "accuracy": "Accuracy",
    "kappa": "Kappa",
    "quadratic_kappa": "Quadratic kappa",
    "brier": "Brier score",
    "ece": "Calibration error",
}

Numbers = Mapping[str, Any]
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
    plots: "Mapping[str, pd.DataFrame]"  # the tables of metrics/plots, by name
    pool: "pd.DataFrame"  # responses of the LLM, kept and rejected
    mistakes: "pd.DataFrame"  # see `list_mistakes`
    base_models: Mapping[str, Numbers]  # what identifies them, by role
    inputs: Mapping[str, str]  # SHA-256 of files, by path
    versions: Mapping[str, str]  # of Python and packages

    @property
    def confidence(self) -> str:
        """The confidence of all intervals, as text."""
        return format_share(self.params["evaluation"]["confidence"])

    @property
    def kind(self) -> str:
        """What the rows from the LLM are: written by it, real texts labelled by it, or both."""
        source, learned = self.params["synthesis"]["source"], self.metrics["data"]["learned"]
        labelled = source == "label" or learned.get("labelled") == learned["synthetic"] > 0
        return "synthetic" if source == "write" else "LLM-labelled" if labelled else "synthetic and LLM-labelled"


class Table(NamedTuple):
    """A table whose first column names the rows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


class Figure(NamedTuple):
    """A chart, how to read it, and its numbers where no other table of the page has them."""

    caption: str
    svg: "Markup"
    numbers: Table | None


class Browser(NamedTuple):
    """A table to search, filter and page through."""

    key: str  # prefix of the ids of its elements
    caption: str
    head: Sequence[str]
    filters: Mapping[str, Sequence[str]]  # options by name
    data: Sequence[tuple[Sequence[Cell], Sequence[int]]]  # for each row, its cells and its option in each filter


def format_number(value: float, digits: int = 3, *, sign: str = "") -> str:
    """Write a number with a real minus sign; with the sign "+", also with a plus sign."""
    return f"{value:{sign}z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def format_difference(value: float) -> str:
    """Write a difference with its sign."""
    return format_number(value, sign="+")


def format_count(value: float) -> str:
    """Write a count with thin spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def format_share(value: float, digits: int | None = None) -> str:
    """Write a share as a percentage, with `digits` decimals or as few as it needs."""
    percent = f"{value * 100:.3g}" if digits is None else f"{value * 100:.{digits}f}"
    return f"{percent}\N{NO-BREAK SPACE}%"


def format_interval(values: Numbers, metric: str, *, signed: bool = False) -> str:
    """Write the interval of a metric as `low to high` without a line break; empty if it has none."""
    ends = [values[f"{metric}_{end}"] for end in ("low", "high") if f"{metric}_low" in values]
    return "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}".join(map(format_difference if signed else format_number, ends))


def flatten(values: Numbers, prefix: str = "") -> dict[str, Any]:
    """Return the leaves of nested values by dotted key, as `dvc exp run -S` takes them; a list is a leaf."""
    leaves: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        leaves |= flatten(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return leaves


def write_value(value: Any) -> str:
    """Write a value much as YAML would."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
