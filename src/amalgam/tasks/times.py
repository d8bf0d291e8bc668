"""When a response was written, as the column `time` says it."""

import pandas as pd

from amalgam.errors import DataError


def parse_times(rows: pd.DataFrame) -> "pd.Series[pd.Timestamp]":
    """Read the column `time` of rows as points in time (UTC where a zone is named); an empty cell gives NaT.

    Raises:
        DataError: with the id of a row whose time is not in the form of ISO 8601, such as 2024-05-31.
    """
    cells = rows["time"].where(rows["time"] != "")
    times = pd.to_datetime(cells, format="ISO8601", utc=True, errors="coerce")
    wrong = cells.notna() & times.isna()
    if wrong.any():
        name, cell = rows.loc[wrong, ["id", "time"]].iloc[0]
        raise DataError(
            f"the row {name} has the time '{cell[:60]}', which is not in the form of ISO 8601, such as 2024-05-31 or "
            "2024-05-31T14:00: correct it, or take `columns.time` out of task.yaml"
        )
    return times
