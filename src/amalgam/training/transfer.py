"""Which rows teach the teacher, and which texts it labels for its students."""

from pathlib import Path

import numpy as np
import pandas as pd

COLUMNS = ["id", "text", "question", "label", "origin"]
_EVERY, _MOST = 10, 100  # of the texts without a label, those that are held out
_ENOUGH = 250  # rows to learn from


def assign_roles(
    train: pd.DataFrame, validation: pd.DataFrame, *, least: int
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Let the validation rows teach where there are fewer than `least`: ten hardly tell one checkpoint from another.

    Returns:
        The human-coded rows that teach, and those that choose the checkpoint; None where they teach.
    """
    if len(validation) >= least:
        return train, validation
    return pd.concat([train, validation], ignore_index=True), None


def build_transfer(
    learned: pd.DataFrame, pool: pd.DataFrame, unlabelled: pd.DataFrame, *, left_out: int, helps: bool = True
) -> pd.DataFrame:
    """Put the transfer set together: rows with the columns `COLUMNS`, label "" where there is none.

    A label counts only where the teacher learned it: rows of the pool that the ratio left out are texts like those that
    nobody coded. What the guard refused is only used where there would be less than `_ENOUGH` rows (docs/findings.md).

    Args:
        learned: the rows that the teacher learned from (id, text, question, label, origin).
        pool: the curated synthetic rows (id, text, question).
        unlabelled: human texts without a label (id, text, question).
        left_out: rows of the pool beside the learned ones, at most; the first ones.
        helps: whether the guard let synthetic rows in.
    """
    if not helps:
        left_out = min(left_out, max(_ENOUGH - len(learned) - len(unlabelled), 0))
    rest = pool[~pool["id"].isin(learned["id"])].head(left_out)
    if "soft" in learned:  # texts that the LLM labelled: no coder gave a label, and the teacher knows better
        learned = learned.assign(label=learned["label"].where(learned["soft"] == "", ""))
    texts = unlabelled[~unlabelled["id"].isin(learned["id"])]
    parts = [learned, rest.assign(label="", origin="synthetic"), texts.assign(label="", origin="unlabelled")]
    return pd.concat([part[COLUMNS] for part in parts], ignore_index=True)


def hold_out_texts(transfer: pd.DataFrame, validation: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold texts without a label out of the transfer set: a few human-coded rows alone cannot choose a checkpoint.

    Return what is left of it, and the human-coded validation rows that did not teach with the texts that were held out.
    """
    validation = validation[~validation["id"].isin(transfer["id"])]
    held_out = transfer.index[transfer["label"] == ""][::_EVERY][:_MOST]
    rows = pd.concat([validation.assign(origin="human")[COLUMNS], transfer.loc[held_out]], ignore_index=True)
    return transfer.drop(index=held_out).reset_index(drop=True), rows


def write_logits(path: Path, logits: dict[str, np.ndarray]) -> None:
    """Write logits by name, as safetensors."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({name: np.ascontiguousarray(logits[name]) for name in sorted(logits)}, path)


def read_logits(path: Path) -> dict[str, np.ndarray]:
    """Read logits by name."""
    from safetensors.numpy import load_file

    return dict(load_file(path))
