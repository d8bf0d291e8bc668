"""The table of what synthetic rows are like beside human ones."""

from amalgam.report.phrases import Numbers, format_number, format_share
from amalgam.report.tables.table import Cell, Table

# Of `synthetic` in metrics/synthetic.json; the human value has the same name after `human_`.
SHARES = {
    "distinct_1": "Distinct words",
    "distinct_2": "Distinct word pairs",
    "distinct_3": "Distinct word triples",
    "self_similarity": "Likeness of two rows",
    "nearest_human": "Nearest human row",
    "out_of_vocabulary": "Words no human used",
    "copied_rate": "Copies of a human row",
}


def tabulate_statistics(statistics: Numbers) -> Table:
    """Put the statistics of synthetic and human rows side by side."""
    rows = [
        (Cell(name), [Cell(_write(statistics, key)), Cell(_write(statistics, f"human_{key}"))])
        for key, name in SHARES.items()
        if key in statistics
    ]
    if "words" in statistics:
        cells = [Cell(_write_length(statistics, prefix)) for prefix in ("", "human_")]
        rows.insert(0, (Cell("Words a row", "mean and standard deviation"), cells))
    if "near_duplicate_rate" in statistics:
        share = Cell(format_share(statistics["near_duplicate_rate"], 1))
        rows.append((Cell("Rejected as a duplicate"), [share, Cell("")]))
    return Table("What the rows are like", "Measure", ["Synthetic", "Human"], rows)


def tabulate_distances(statistics: Numbers, names: dict[str, str]) -> Table:
    """List the distances (squared MMD) between synthetic and human rows; `names` maps keys to what they are called."""
    rows = [
        (
            Cell(name),
            [
                Cell(format_number(values["mmd2"], 4)),
                Cell(format_number(values["mmd2_chance"], 4)),
                Cell(format_number(values["mmd2_p"]) if values["mmd2_p"] >= 0.001 else "< 0.001"),
            ],
        )
        for key, name in names.items()
        for values in [statistics["mmd"][key]]
    ]
    return Table("Distance of the embeddings", "Rows", ["Squared MMD", "limit by chance", "p"], rows)


def _write(statistics: Numbers, key: str) -> str:
    return format_number(statistics[key]) if key in statistics else ""


def _write_length(statistics: Numbers, prefix: str) -> str:
    if f"{prefix}words" not in statistics:
        return ""
    spread = f" ± {format_number(statistics[key], 1)}" if (key := f"{prefix}words_sd") in statistics else ""
    return format_number(statistics[f"{prefix}words"], 1) + spread
