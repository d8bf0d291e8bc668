"""Measure what the synthetic rows are like: how long, how varied, how near to human rows, and how easily told apart."""

from pathlib import Path
from typing import Any

from runtime import run_stage

import pandas as pd

from amalgam.evaluation.bootstrap import SEED
from amalgam.evaluation.describe import compare_embeddings, describe_texts
from amalgam.files import read_json, read_rows, write_json
from amalgam.params import Params
from amalgam.training.embeddings import embed_rows

CURATED = Path("data/curated")
PREPARED = Path("data/prepared")
MOST = 1000  # rows of each kind that are compared; the work grows with the square
COLUMNS = ["id", "text", "question", "label"]
TOKENS = ("prompt_tokens", "completion_tokens", "cost_usd")  # metrics/cost.json has them


def main(params: Params, root: Path) -> None:
    """Read data/curated/, data/judgements/ and human rows, write metrics/synthetic.json."""
    # Never test rows. Coded rows first: only they are compared by label.
    pool, coded, uncoded = (
        read_rows(path).reindex(columns=COLUMNS, fill_value="")
        for path in (CURATED / "synthetic.csv", PREPARED / "train.csv", PREPARED / "unlabelled.csv")
    )
    synthetic, human = draw_rows(pool, MOST), draw_rows(coded, MOST)
    human = pd.concat([human, draw_rows(uncoded, MOST - len(human))], ignore_index=True)
    curation, judged = (read_json(Path(folder) / "summary.json") for folder in (CURATED, "data/judgements"))
    found: dict[str, Any] = {"rows": len(pool), "human_rows": len(coded) + len(uncoded)}
    if len(pool):
        vectors = embed_rows(
            Path("models/base/encoder"), pd.concat([synthetic, human]), max_length=params.teacher.max_length
        )
        own, others = vectors[: len(synthetic)], vectors[len(synthetic) :]
        repeats = curation["rejected"]["exact_duplicate"] + curation["rejected"]["near_duplicate"]
        found |= {
            "compared_rows": len(synthetic),
            "compared_human_rows": len(human),
            "near_duplicate_rate": round(repeats / (curation["kept"] + repeats), 4),
            **describe_texts(synthetic, human),
            **compare_embeddings(own, others, synthetic["label"], human["label"], params.evaluation.confidence),
        }
    counts = {"synthesis": drop_tokens(curation), "judge": drop_tokens(judged)}
    write_json(Path("metrics/synthetic.json"), counts | {"synthetic": found})


def draw_rows(rows: pd.DataFrame, size: int) -> pd.DataFrame:
    """Draw at most `size` rows, and keep their order."""
    return rows.sample(min(size, len(rows)), random_state=SEED).sort_index()


def drop_tokens(counts: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys without a value, because DVC compares only numbers, and the tokens and cost of requests."""
    return {name: value for name, value in counts.items() if value is not None and name not in TOKENS}


if __name__ == "__main__":
    run_stage("describe", main)
