"""The shipped student as `amalgam predict` opens it: only after its files proved to be those of the manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amalgam.errors import DataError, ModelError
from amalgam.files import hash_file, read_json
from amalgam.predicting.onnx import OnnxScorer
from amalgam.tasks.texts import clean_text

MANIFEST = "manifest.json"
# What is read beside the ONNX file; torch's weights are not, and 70 MB more would take a while to hash.
READ = ("amalgam.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True, slots=True)
class Shipped:
    """A shipped student.

    Attributes:
        scorer: its model.
        model: name of the ONNX file.
        threshold: of two labels, the probability from which the last one is chosen; None chooses the likelier one.
        ask_below: a row goes to a human if its label has less than this probability.
        guaranteed: whether validation rows vouch for the agreement above that.
        repair: what is mended in texts, as the task says it.
    """

    scorer: OnnxScorer
    model: str
    threshold: float | None
    ask_below: float
    guaranteed: bool
    repair: str | None = None

    def clean_text(self, text: str) -> str:
        """Return a text as the model learned to read it."""
        return clean_text(text, mojibake=self.repair == "mojibake")


def load_shipped(folder: Path, *, threads: int = 0) -> Shipped:
    """Check the hashes of what is read, then load the model that the manifest names.

    Raises:
        ModelError: the folder is no shipped student, or a file of it is missing or has changed.
    """
    if not (folder / MANIFEST).is_file():
        raise ModelError(f"{folder} is not a shipped student: run `dvc repro`, or `dvc pull` to fetch one")
    try:
        manifest = read_json(folder / MANIFEST)
        model, calibration = str(manifest["model"]), manifest["calibration"]
        check_hashes(folder, manifest["files"], [model, *READ])
        scorer = OnnxScorer(folder / model, folder, threads=threads, temperature=float(calibration["temperature"]))
        threshold = calibration["threshold"]
        return Shipped(
            scorer,
            model,
            None if threshold is None else float(threshold),
            float(calibration["ask_below"]),
            bool(calibration["guaranteed"]),
            manifest.get("repair"),
        )
    except (DataError, KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"{folder / MANIFEST} is not a manifest that this version writes: run `dvc repro` to make it again"
        ) from error


def check_hashes(folder: Path, hashes: dict[str, Any], names: list[str]) -> None:
    """Compare files with their SHA-256.

    Raises:
        ModelError: a file is missing, has another hash or has none.
    """
    for name in names:
        path = folder / name
        if not path.is_file():
            raise ModelError(f"{path} is missing: run `dvc checkout {folder}`, or `dvc pull` to fetch it")
        if hash_file(path) != hashes.get(name):
            raise ModelError(
                f"{path} is not the file that {MANIFEST} names, its SHA-256 differs: "
                f"run `dvc checkout --force {folder}` to put the shipped one back"
            )
