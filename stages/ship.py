"""Assemble what ships: the best student in all its forms, its model card and its manifest."""

import shutil
from pathlib import Path

from runtime import run_stage

from amalgam.files import hash_file, read_json, write_text
from amalgam.params import Params, dump_tracked
from amalgam.shipping.card import build_card, hash_code, write_manifest
from amalgam.shipping.export import write_weights
from amalgam.tasks.schema import load_task
from amalgam.training.checkpoint import read_config

BASE = Path("models/base")
EXPORTED = Path("models/exported")
METRICS = Path("metrics")
TARGET = Path("models/student")
# The code that writes, mixes, trains and exports; dvc.yaml lists the same as dependencies.
CODE = [Path("src/amalgam") / name for name in ("shipping", "synthesis", "tasks", "training")]


def main(params: Params, root: Path) -> None:
    """Read students, exports and metrics, write models/student/."""
    folder = Path("data/tasks") / params.task
    task = load_task(folder)
    exported = read_json(EXPORTED / "summary.json")
    seed = f"seed-{exported['seed']}"
    shutil.rmtree(TARGET, ignore_errors=True)
    write_weights(Path("models/students") / seed, TARGET, [BASE / "encoder", BASE / "student"])
    for model in sorted((EXPORTED / seed).glob("*.onnx")):
        shutil.copy2(model, TARGET)
    base = {"encoder": read_json(BASE / "encoder/amalgam.json"), "llm": read_json(BASE / "llm/identity.json")}
    if params.distillation.student != "layers":
        base["student"] = read_json(BASE / "student/amalgam.json")
    metrics = {name: read_json(METRICS / f"{name}.json") for name in ("data", "models", "selective", "summary")}
    length = read_config(TARGET).max_length
    card = build_card(task, exported, metrics, base, length, params.evaluation.confidence)
    write_text(TARGET / "README.md", card)
    data = [folder / "task.yaml", Path("data/mixed.csv"), *Path("data/prepared").glob("*.csv")]
    write_manifest(
        TARGET,
        exported["model"],
        exported["calibration"],
        repair=task.columns.repair,
        precision={"shipped": exported["precision"], **exported["fidelity"]},
        seed=exported["seed"],
        data={path.as_posix(): hash_file(path) for path in sorted(data)},
        base_models=base,
        params=dump_tracked(params),
        code={path.as_posix(): hash_code(path) for path in CODE},
    )


if __name__ == "__main__":
    run_stage("ship", main)
