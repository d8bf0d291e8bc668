"""Which human-coded rows teach, and the transfer set: the texts that the teacher labels for its students."""

import pandas as pd

_TRANSFER = ["id", "text", "question", "label", "origin"]
_EVERY, _MOST = 10, 100  # texts without a label that are held out: one in `_EVERY`, at most `_MOST`
# Rows of a transfer set (docs/findings.md): with fewer, rows that the guard refused help; a deeper student is best.
_SMALL, FEW = 250, 300


def assign_roles(
    train: pd.DataFrame, validation: pd.DataFrame, *, least: int
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Return the human-coded rows that teach, and those that choose the checkpoint.

    If there are fewer than `least` validation rows, they teach too, and none choose: ten rows can hardly tell one
    checkpoint from another.
    """
    if len(validation) >= least:
        return train, validation
    return pd.concat([train, validation], ignore_index=True), None


def build_transfer(
    learned: pd.DataFrame, pool: pd.DataFrame, unlabelled: pd.DataFrame, *, left_out: int, helps: bool = True
) -> pd.DataFrame:
    """Build the transfer set: rows (id, text, question, label, origin), label "" where there is none.

    A label counts only if the teacher `learned` it: at most `left_out` rows of the pool that the ratio left out are
    added, the first ones, like uncoded texts. If the guard refused the rows (`helps` is false), they are used only if
    there would otherwise be few.
    """
    if not helps:
        left_out = min(left_out, max(_SMALL - len(learned) - len(unlabelled), 0))
    rest = pool[~pool["id"].isin(learned["id"])].head(left_out)
    # Texts that the LLM labelled: no coder did, and the teacher knows better. Without other labels, the control needs
    # the LLM's own.
    if "soft" in learned and (told := learned["soft"] == "").any():
        learned = learned.assign(label=learned["label"].where(told, ""))
    texts = unlabelled[~unlabelled["id"].isin(learned["id"])]
    parts = [learned, rest.assign(label="", origin="synthetic"), texts.assign(label="", origin="unlabelled")]
    return pd.concat([part[_TRANSFER] for part in parts], ignore_index=True)


def hold_out_texts(transfer: pd.DataFrame, validation: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Hold out unlabelled texts from the transfer set: a few human-coded rows alone cannot choose a checkpoint.

    Return the rest of the transfer set, and the human-coded validation rows that did not teach with the held-out texts.
    """
    validation = validation[~validation["id"].isin(transfer["id"])]
    held_out = transfer.index[transfer["label"] == ""][::_EVERY][:_MOST]
    rows = pd.concat([validation.assign(origin="human")[_TRANSFER], transfer.loc[held_out]], ignore_index=True)
    return transfer.drop(index=held_out).reset_index(drop=True), rows
