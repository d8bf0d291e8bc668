"""`amalgam predict`: label a table of responses with the shipped student."""

import json
import os
from dataclasses import asdict
from pathlib import Path

from amalgam.shipping.predict import Columns, Device, Shipped, Tally, label_table, load_shipped


def run_predict(
    source: Path,
    target: Path,
    model: Path,
    columns: Columns,
    *,
    threads: int = 0,
    device: Device = "auto",
    as_json: bool = False,
) -> None:
    """Label the rows of `source` into `target`, and print what came out.

    Raises:
        DataError: a table cannot be read or written.
        ModelError: the folder holds no shipped student, or not the one of its manifest.
    """
    if threads:
        os.environ["RAYON_NUM_THREADS"] = str(threads)  # of the tokenizer
    shipped = load_shipped(model, threads=threads, device=device)
    tally = label_table(source, target, shipped, columns)
    print(json.dumps(_list_facts(tally, shipped), ensure_ascii=False) if as_json else _phrase(tally, shipped, target))


def _list_facts(tally: Tally, shipped: Shipped) -> dict[str, object]:
    return asdict(tally) | {
        "model": shipped.model,
        "threshold": shipped.threshold,
        "ask_below": shipped.ask_below,
        "guaranteed": shipped.guaranteed,
    }


def _phrase(tally: Tally, shipped: Shipped, target: Path) -> str:
    counts = ", ".join(f"{label} {count:,}" for label, count in tally.labels.items())
    basis = "as the validation rows allow" if shipped.guaranteed else "without a guarantee, see the model card"
    said = f"{target}: {tally.rows:,} rows; {counts}; {tally.needs_human:,} need a human ({basis})"
    return "\n".join([said, *tally.notes])
