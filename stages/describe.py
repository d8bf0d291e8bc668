"""Measure what the synthetic rows are like: how long, how varied, how near to human rows, and how easily told apart."""

from pathlib import Path
from typing import Any

from runtime import run_stage

import pandas as pd

from amalgam.description.describe import MOST, compare_embeddings, describe_texts, sample_rows
from amalgam.embeddings import embed_rows
from amalgam.files import read_json, write_json
from amalgam.params import Params
from amalgam.rows import iterate_rows

CURATED = Path("data/curated")
PREPARED = Path("data/prepared")
TOKENS = ("prompt_tokens", "completion_tokens", "cost_usd")  # metrics/cost.json has them


def main(params: Params, root: Path) -> None:
    """Read data/curated/, data/judgements/ and human rows, write metrics/synthetic.json."""
    seed = params.evaluation.seed
    synthetic, rows = sample_rows(iterate_rows(CURATED / "synthetic.csv"), MOST, seed)
    # Never test rows. Coded rows first: only they are compared by label.
    coded, coded_rows = sample_rows(iterate_rows(PREPARED / "train.csv"), MOST, seed)
    uncoded, uncoded_rows = sample_rows(iterate_rows(PREPARED / "unlabelled.csv"), MOST - len(coded), seed)
    human = pd.concat([coded, uncoded], ignore_index=True)
    curation, judged = (read_json(Path(folder) / "summary.json") for folder in (CURATED, "data/judgements"))
    found: dict[str, Any] = {"rows": rows, "human_rows": coded_rows + uncoded_rows}
    if rows:
        found |= {"compared_rows": len(synthetic), "compared_human_rows": len(human)}
        found |= {"near_duplicate_rate": measure_repeats(curation), **describe_texts(synthetic, human)}
        found |= embed_and_compare(synthetic, human, params)
    counts = {"synthesis": drop_tokens(curation), "judge": drop_tokens(judged)}
    write_json(Path("metrics/synthetic.json"), counts | {"synthetic": found})


def measure_repeats(curation: dict[str, Any]) -> float:
    """Return the share of the usable responses that repeat another one, in whole or nearly."""
    repeats: int = curation["rejected"]["exact_duplicate"] + curation["rejected"]["near_duplicate"]
    usable: int = curation["kept"] + repeats
    return round(repeats / usable, 4)


def embed_and_compare(synthetic: pd.DataFrame, human: pd.DataFrame, params: Params) -> dict[str, Any]:
    """Embed both by the frozen encoder, and compare."""
    both = pd.concat([synthetic, human], ignore_index=True)
    vectors = embed_rows(Path("models/base/encoder"), both, max_length=params.teacher.max_length)
    labels = list(both["label"])
    cut = len(synthetic)
    return compare_embeddings(vectors[:cut], vectors[cut:], labels[:cut], labels[cut:], params.evaluation)


def drop_tokens(counts: dict[str, Any]) -> dict[str, Any]:
    """Leave out what has no value, for DVC compares numbers only, and what the requests took."""
    return {name: value for name, value in counts.items() if value is not None and name not in TOKENS}


if __name__ == "__main__":
    run_stage("describe", main)
