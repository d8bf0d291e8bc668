"""Tables that count rows: human ones by set, synthetic ones by outcome and label."""

from collections.abc import Sequence

from amalgam.report.phrases import REASON_NAMES, Numbers, format_count
from amalgam.report.tables.table import Cell, Table, tabulate_shares

SET_NAMES = {
    "train": "Train",
    "validation": "Validation",
    "test": "Test",
    "transfer_test": "Transfer test",
    "unlabelled": "Unlabelled",
}


def tabulate_human_rows(data: Numbers, labels: Sequence[str]) -> Table:
    """Count the human rows by set and label."""
    rows = [
        (
            Cell(SET_NAMES.get(name, name)),
            [
                Cell(format_count(count)),
                *(Cell(format_count(data["labels"].get(name, {}).get(label, 0))) for label in labels),
            ]
            if name in data["labels"]
            else [Cell(format_count(count)), *(Cell("no labels") for _ in labels)],
        )
        for name, count in data["rows"].items()
    ]
    return Table("Human responses by set and label", "Set", ["Rows", *labels], rows)


def tabulate_curation(curation: Numbers) -> Table:
    """Count what curation kept and rejected, most frequent reason first."""
    rejected = sorted(curation["rejected"].items(), key=lambda item: -item[1])
    found = [
        ("Kept", curation["kept"]),
        *((REASON_NAMES.get(reason, reason), count) for reason, count in rejected if count),
    ]
    return tabulate_shares("What became of the LLM's responses", "Outcome", found, curation["responses"])


def tabulate_kept(curation: Numbers) -> Table:
    """Count the kept synthetic rows by label."""
    found = list(curation["kept_by_label"].items())
    return tabulate_shares("Synthetic rows that were kept, by label", "Label", found, curation["kept"])
