"""Put together what ships: the best student in all its forms, its model card and its manifest."""

import shutil
from pathlib import Path
from typing import Any

from runtime import run_stage

from amalgam.files import read_json, write_text
from amalgam.params import Params, dump_tracked
from amalgam.shipping.calibration import Calibration
from amalgam.shipping.card import CardContent, build_card
from amalgam.shipping.manifest import hash_code, hash_files, write_manifest
from amalgam.shipping.weights import write_weights
from amalgam.tasks.schema import Task, load_task

BASE = Path("models/base")
EXPORTED = Path("models/exported")
METRICS = Path("metrics")
STUDENTS = Path("models/students")
TARGET = Path("models/student")
# The code that writes, mixes, trains and exports; dvc.yaml names the same as dependencies.
CODE = [Path("src/amalgam") / name for name in ("shipping", "synthesis", "tasks", "training")]


def main(params: Params, root: Path) -> None:
    """Read students, exports and metrics, write models/student/."""
    folder = Path("data/tasks") / params.task
    task = load_task(folder)
    exported = read_json(EXPORTED / "summary.json")
    student = STUDENTS / f"seed-{exported['seed']}"
    shutil.rmtree(TARGET, ignore_errors=True)
    write_weights(student, TARGET, [BASE / "encoder", BASE / "student"])
    for model in sorted((EXPORTED / student.name).glob("*.onnx")):
        shutil.copy2(model, TARGET)
    base = {"encoder": read_json(BASE / "encoder/amalgam.json"), "llm": read_json(BASE / "llm/identity.json")}
    if params.distillation.student != "layers":
        base["student"] = read_json(BASE / "student/amalgam.json")
    write_text(TARGET / "README.md", build_card(describe_student(params, task, exported, base)))
    data = [folder / "task.yaml", Path("data/mixed.csv"), *Path("data/prepared").glob("*.csv")]
    write_manifest(
        TARGET,
        exported["model"],
        exported["calibration"],
        repair=task.columns.repair,
        precision={
            "shipped": exported["precision"],
            "allowed_auc_loss": params.shipping.int8_auc_loss,
            **exported["fidelity"][str(exported["seed"])],
        },
        seed=exported["seed"],
        data=hash_files(data),
        base_models=base,
        params=dump_tracked(params),
        code=hash_code(CODE),
    )


def describe_student(params: Params, task: Task, exported: dict[str, Any], base: dict[str, Any]) -> CardContent:
    """Collect what the card says."""
    return CardContent(
        task={name: getattr(task, name) for name in ("name", "title", "response", "licence", "citation")},
        labels={label.name: label.definition for label in task.labels},
        max_length=params.teacher.max_length,
        model=exported["model"],
        precision=exported["fidelity"][str(exported["seed"])],
        allowed_loss=params.shipping.int8_auc_loss,
        calibration=Calibration(**exported["calibration"]),
        seed=exported["seed"],
        metrics=read_json(METRICS / "models.json"),
        size=read_json(METRICS / "summary.json")["student"],
        selective=read_json(METRICS / "selective.json")["selective"],
        data=read_json(METRICS / "data.json"),
        confidence=params.evaluation.confidence,
        base_model=base.get("student", base["encoder"]),  # what the weights that ship were
        llm=base["llm"],
    )


if __name__ == "__main__":
    run_stage("ship", main)
