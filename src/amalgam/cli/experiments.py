"""`amalgam experiments`: params and numbers of DVC's experiments as one table, which the report draws curves of."""

import sys
from pathlib import Path

from amalgam.dvc import list_experiments, open_repo
from amalgam.errors import DataError
from amalgam.report.phrases import flatten_values
from amalgam.review.revisions import read_revision
from amalgam.training.quality import fill_in


def run_experiments(folder: Path) -> None:
    """Print the experiments that began at HEAD as CSV; see `amalgam.report.sweeps` for the names of the columns.

    Raises:
        DataError: there are none, or the project or one of them cannot be read.
    """
    import pandas as pd

    with open_repo(folder) as repo:
        revisions = [read_revision(repo, commit) for commit in list_experiments(repo)]
    if not revisions:
        raise DataError(
            "no experiment began at HEAD: `dvc exp run` makes one, and `dvc exp list -A` lists those of other commits"
        )
    rows = [
        {"Experiment": revision.name}
        | {f"params.yaml:{key}": value for key, value in flatten_values(fill_in(revision.params))}
        | revision.metrics
        for revision in revisions
    ]
    pd.DataFrame(rows, dtype=object).to_csv(sys.stdout, index=False, lineterminator="\n")
