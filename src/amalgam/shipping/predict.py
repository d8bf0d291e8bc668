"""`amalgam predict`: label a table of responses with the shipped student, part by part."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from amalgam.errors import DataError, ModelError
from amalgam.files import hash_file, read_json
from amalgam.machine import show_progress
from amalgam.shipping.onnx import FLOAT, OnnxScorer, decide, has_gpu
from amalgam.shipping.tables import SHEET_ROWS, Added, find_format, survey_table, write_table
from amalgam.tasks.formats import note_encoding, open_source
from amalgam.tasks.tables import Part, find_value, read_parts
from amalgam.tasks.texts import clean_text, write_text
from amalgam.training.parallel import Advance

MANIFEST, FORMAT = "manifest.json", 1
Device = Literal["auto", "cpu", "cuda"]
# Files read in addition to the ONNX file; the 300 MB of weights for torch would take a while to hash.
_READ = ("amalgam.json", "tokenizer.json", "tokenizer_config.json")
_DECIMALS = 6
_SOON = 2000  # rows that are labelled too soon for a progress bar to help


@dataclass(frozen=True, slots=True)
class Shipped:
    """A shipped student; the thresholds are those of `Calibration`, `repair` is the task's `columns.repair`."""

    scorer: OnnxScorer
    model: str
    threshold: float | None
    ask_below: float
    guaranteed: bool
    repair: str | None = None

    def clean_text(self, text: str) -> str:
        """Return a text as the model learned to read it."""
        return clean_text(text, mojibake=self.repair == "mojibake")


@dataclass(slots=True)
class Tally:
    """What was written: rows, rows per label, rows that need a human; and notes on the source."""

    rows: int
    labels: dict[str, int]
    needs_human: int
    notes: list[str]


def run_predict(
    source: Path, target: Path, model: Path, names: Mapping[str, str], *, threads: int, device: Device, as_json: bool
) -> None:
    """Label the rows of `source`, write them to `target` and print a summary; for `names` see `label_table`."""
    if threads:
        os.environ["RAYON_NUM_THREADS"] = str(threads)  # for the tokenizer
    shipped = load_shipped(model, threads=threads, device=device)
    tally = label_table(source, target, shipped, **names)
    if as_json:
        said = {name: getattr(shipped, name) for name in ("model", "threshold", "ask_below", "guaranteed")}
        print(json.dumps(asdict(tally) | said, ensure_ascii=False))
        return
    counts = ", ".join(f"{label} {count:,}" for label, count in tally.labels.items())
    basis = "as the validation rows allow" if shipped.guaranteed else "without a guarantee, see the model card"
    print(
        f"{target}: {tally.rows:,} rows; {counts}; {tally.needs_human:,} need a human ({basis})", *tally.notes, sep="\n"
    )


def load_shipped(folder: Path, *, threads: int = 0, device: Device = "auto") -> Shipped:
    """Check the hashes of the files that are read, then load the model that the manifest names.

    On a GPU, the float32 model is loaded, whatever ships: 8-bit integers would go back and forth to the processor.
    """
    if device == "cuda" and not has_gpu():
        raise ModelError(
            "ONNX Runtime finds no GPU here: install `onnxruntime-gpu` in place of `onnxruntime`, or leave out --device"
        )
    on_gpu = device != "cpu" and has_gpu()
    if not (folder / MANIFEST).is_file():
        raise ModelError(f"{folder} is not a shipped student: run `dvc repro`, or `dvc pull` to fetch one")
    try:
        manifest = read_json(folder / MANIFEST)
        model, calibration = FLOAT if on_gpu else str(manifest["model"]), manifest["calibration"]
        for path in (folder / name for name in (model, *_READ)):
            if not path.is_file():
                raise ModelError(f"{path} is missing: run `dvc checkout {folder}`, or `dvc pull` to fetch it")
            if hash_file(path) != manifest["files"].get(path.name):
                raise ModelError(f"{path} is not the file that {MANIFEST} names: run `dvc checkout --force {folder}`")
        temperature, threshold, ask_below, guaranteed = (
            calibration[name] for name in ("temperature", "threshold", "ask_below", "guaranteed")
        )
        scorer = OnnxScorer(folder / model, folder, threads=threads, temperature=temperature, on_gpu=on_gpu)
        return Shipped(scorer, model, threshold, ask_below, guaranteed, manifest.get("repair"))
    except (AttributeError, DataError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / MANIFEST} is not a manifest in this version's format: run `dvc repro` to write it again"
        ) from error


def label_table(
    source: Path, target: Path, shipped: Shipped, *, text: str = "text", question: str = "question", prefix: str = ""
) -> Tally:
    """Write the rows of `source` to `target`, in their order, each with `label`, `p_<label>` and `needs_human`.

    `text` and `question` are names of columns; the names of the new columns begin with `prefix`.
    """
    form = find_format(target)
    if source.resolve() == target.resolve() or (target.exists() and target.samefile(source)):
        raise DataError(f"{target} is the input itself: give the output another name")
    needed = [text, *([question] if shipped.scorer.uses_question else [])]
    table = open_source(source)
    rows, names = survey_table(table, needed, target if form == "xlsx" else None)
    kinds = {"label": str, **{f"p_{label}": float for label in shipped.scorer.labels}, "needs_human": bool}
    added: dict[str, type] = {prefix + name: kind for name, kind in kinds.items()}
    if taken := [name for name in added if name in names]:
        raise DataError(f"{source} already has a column {taken[0]!r}: rename it, or give --prefix for the new ones")
    if form == "xlsx" and rows > SHEET_ROWS:
        raise DataError(f"{target} cannot hold {rows:,} rows, since Excel holds {SHEET_ROWS:,}: write .csv or .parquet")
    tally = Tally(rows, dict.fromkeys(shipped.scorer.labels, 0), 0, note_encoding(table))

    def label_parts() -> Iterator[tuple[Part, Added]]:
        for part in read_parts(table):
            values = _label_part(part, shipped, needed, advance)
            yield part, dict(zip(added, values, strict=True))
            for label, asks in zip(values[0], values[-1], strict=True):
                tally.labels[label] += 1
                tally.needs_human += asks

    progress = show_progress("predict", total=rows) if rows > _SOON else nullcontext(lambda _: None)
    with progress as advance:
        write_table(target, table, names, added, label_parts())
    return tally


def _label_part(part: Part, shipped: Shipped, needed: list[str], advance: Advance) -> list[list[Any]]:
    """Return the values of the new columns."""
    cells = [tuple(shipped.clean_text(write_text(find_value(row, name)) or "") for name in needed) for row in part.rows]
    # Equal texts of a part get equal labels: with 8-bit integers, the other rows of a batch change a score a little.
    places = {cell: place for place, cell in enumerate(dict.fromkeys(cells))}
    texts, *questions = zip(*places, strict=True)
    scored = shipped.scorer.score({"text": texts, "question": questions[0] if questions else ()}, advance)
    for _ in range(len(cells) - len(places)):  # the rows with the text of another row
        advance(None)
    probabilities = scored[[places[cell] for cell in cells]]
    chosen, certainty = decide(probabilities, shipped.threshold)
    is_blank = np.array([not text for text, *_ in cells])  # which no model can judge
    return [
        [shipped.scorer.labels[number] for number in chosen],
        *np.round(probabilities, _DECIMALS).T.tolist(),
        ((certainty < shipped.ask_below) | is_blank).tolist(),
    ]
