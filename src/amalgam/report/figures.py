"""A chart with what belongs to it."""

from dataclasses import dataclass

from markupsafe import Markup

from amalgam.report.charts.style import Spec
from amalgam.report.svg import draw_svg
from amalgam.report.tables.table import Table


@dataclass(frozen=True, slots=True)
class Figure:
    """A chart, what it shows, and its numbers where no other table of the page has them."""

    caption: str
    svg: Markup
    numbers: Table | None = None


def build_figure(key: str, title: str, caption: str, spec: Spec, numbers: Table | None = None) -> Figure:
    """Draw a chart. The key is unique in the page; the title names the chart, the caption says how to read it."""
    where = "Its numbers are in the table below it." if numbers else "Its numbers are in a table of this page."
    return Figure(caption, draw_svg(spec, key, title, f"{caption} {where}"), numbers)
