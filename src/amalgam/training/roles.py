"""Which human-coded rows teach, and which choose the checkpoint."""

import pandas as pd


def assign_roles(
    learned: pd.DataFrame, validation: pd.DataFrame, *, least: int
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Let the validation rows teach where they are too few to choose a checkpoint.

    Ten rows tell one checkpoint from another hardly better than chance, and vouch for no threshold; as examples they
    are a quarter more of what forty others teach. Synthetic rows alone are joined by none: then the validation rows
    choose, however few they are.

    Args:
        learned: rows to learn from (id, text, question, label, origin, shots).
        validation: human-coded rows (id, text, question, label).
        least: validation rows from which they choose.

    Returns:
        The rows to learn from, and those that choose; None where they teach.
    """
    if len(validation) >= least or not (learned["origin"] == "human").any():
        return learned, validation
    taught = validation.assign(origin="human", shots="")
    return pd.concat([learned, taught[list(learned.columns.intersection(taught.columns))]], ignore_index=True), None
