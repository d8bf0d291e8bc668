"""Tables of what exactly was run."""

from collections.abc import Mapping
from typing import Any

from amalgam.report.phrases import Numbers
from amalgam.report.tables.table import Cell, Table


def tabulate_pairs(caption: str, corner: str, head: str, values: Numbers) -> Table:
    """Put nested values into two columns, keys joined by dots as `dvc exp run -S` takes them."""
    return Table(caption, corner, [head], [(Cell(name), [Cell(value)]) for name, value in flatten_values(values)])


def flatten_values(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """List the leaves of nested values as (dotted key, text)."""
    leaves: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            leaves += flatten_values(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            leaves.append((prefix + name, ", ".join(map(str, value))))
        elif value is None or isinstance(value, bool):
            leaves.append((prefix + name, "null" if value is None else str(value).lower()))
        else:
            leaves.append((prefix + name, str(value)))
    return leaves
