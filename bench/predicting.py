"""Memory and speed of `amalgam predict`: very many rows, and one row, each in its own process.

Run `python -m bench.predicting` in the project's folder after `dvc repro`, with nothing else on the cores: one row,
then more, up to a million. Texts are made up, about 150 characters each. It checks that every row comes out, in order,
and prints a Markdown table. A million rows take some minutes. Linux only, since other systems count memory in other
units.
"""

import argparse
import csv
import sys
import tempfile
from pathlib import Path

from bench.scale import make_text, run_command

COMMAND = [str(Path(sys.executable).with_name("amalgam")), "predict"]


def write_responses(path: Path, rows: int) -> None:
    """Write a CSV file of made-up responses."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["id", "text"])
        writer.writerows((number, make_text(number)) for number in range(rows))


def check_order(target: Path, rows: int) -> None:
    """Check that all rows are there, in order, each with a label.

    Raises:
        SystemExit: they are not.
    """
    with target.open(encoding="utf-8", newline="") as stream:
        expected = 0
        for row in csv.DictReader(stream):
            if int(row["id"]) != expected or not row["label"]:
                raise SystemExit(f"row {expected} is out of order or has no label")
            expected += 1
    if expected != rows:
        raise SystemExit(f"{rows} rows went in, {expected} came out")


def main(rows: int, parent: Path | None) -> None:
    """Measure, and print a line of the table for each number of rows."""
    print("| rows | seconds | rows/s | peak memory, MiB |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=parent) as temporary:
        source, target = Path(temporary) / "responses.csv", Path(temporary) / "labelled.csv"
        write_responses(source, 1)
        run_command(*COMMAND, source, target, folder=Path())  # so that the first line does not measure a cold disk
        for count in (1, rows // 100, rows // 10, rows):
            write_responses(source, count)
            run = run_command(*COMMAND, source, target, folder=Path())
            check_order(target, count)
            print(f"| {count} | {run.seconds:.2f} | {count / run.seconds:.0f} | {run.peak:.0f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="largest number of rows")
    parser.add_argument("--folder", type=Path, help="folder for the files, instead of the system's temporary folder")
    args = parser.parse_args()
    main(args.rows, args.folder)
