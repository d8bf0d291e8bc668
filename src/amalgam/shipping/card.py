"""Describe a shipped student: the model card for people and the hub, the manifest for programs.

The text of a task's rubric is data: Markdown in it is escaped, and the hub's own library writes the front matter. The
manifest identifies code by Git's own id of each file or folder, as `git rev-parse REVISION:PATH` prints it. A commit's
id would change with every commit, and so would the shipped folder.
"""

import hashlib
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from amalgam.files import hash_file, write_json
from amalgam.shipping.predict import FORMAT, MANIFEST
from amalgam.tasks.schema import Task

# What the card shows: the key in metrics/models.json, the hub's name for it, and ours.
_MEASURES = (
    ("auc", "roc_auc", "AUC"),
    ("macro_f1", "f1", "macro-F1"),
    ("accuracy", "accuracy", "accuracy"),
    ("kappa", "cohen_kappa", "Cohen's kappa"),
    ("quadratic_kappa", "quadratic_weighted_kappa", "quadratic weighted kappa"),
    ("brier", "brier_score", "Brier score (0 is best)"),
    ("ece", "ece", "expected calibration error (0 is best)"),
)
_MODELS = {
    "student": "student, mean of all seeds",
    "student_int8": "student as 8-bit integers",
    "teacher": "its teacher",
    "human_only": "human-only teacher",
}
_MARKUP = re.compile(r"([\\`*_{}\[\]<>#|~$&:@]|(?<=www)\.)", re.IGNORECASE)


def build_card(
    task: Task,
    exported: Mapping[str, Any],
    metrics: Mapping[str, Any],
    base_models: Mapping[str, Mapping[str, str]],
    max_length: int,
    confidence: float,
) -> str:
    """Build the card, YAML front matter and Markdown, of a student that reads at most `max_length` tokens of a text.

    `exported` is models/exported/summary.json, `metrics` are files of metrics/, with intervals of this confidence.
    `base_models` has `name`, `licence` and `source` of `encoder`, `llm` and, if the student starts from a different
    encoder, `student`.
    """
    from huggingface_hub import EvalResult, ModelCardData
    from jinja2 import Environment, StrictUndefined

    models, encoder = metrics["models"], base_models.get("student", base_models["encoder"])
    student = models.get("student", {})
    measures = [measure for measure in _MEASURES if measure[0] in student]
    results = [
        EvalResult(
            task_type="text-classification",
            task_name=" ".join(task.title.split()),
            dataset_type=task.name,
            dataset_name=task.name,
            dataset_split="test",
            metric_type=kind,
            metric_name=(
                f"{name}, mean of seeds, {confidence:.0%} interval "
                f"{student[f'{key}_low']:.3f} to {student[f'{key}_high']:.3f}"
            ),
            metric_value=student[key],
        )
        for key, kind, name in measures
        if f"{key}_low" in student
    ]
    source = encoder.get("source", "").partition("@")[0]
    front = ModelCardData(
        base_model=source if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else None,
        library_name="transformers",
        license="other",
        license_name="see-licences-below",
        license_link="#licences",
        model_name=f"amalgam-{task.name}",
        pipeline_tag="text-classification",
        tags=["amalgam", "knowledge-distillation", "onnx", "synthetic-data"],
        eval_results=results,
    )
    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: f"{value:.3f}" if isinstance(value, float) else value,
        autoescape=False,  # it is not HTML: texts from elsewhere go through the filter `plain`
    )
    # `plain` gives one line in which nothing is markup, a link, a mention or HTML.
    environment.filters["plain"] = lambda text: _MARKUP.sub(r"\\\1", " ".join(str(text).split()))
    template = environment.from_string(files("amalgam.shipping").joinpath("card.md.j2").read_text(encoding="utf-8"))
    body = template.render(
        task=task,
        exported=exported,
        data=metrics["data"],
        size=metrics["summary"]["student"],
        alone=metrics["selective"]["selective"],
        measures=measures,
        models=[(name, models[key]) for key, name in _MODELS.items() if key in models],
        encoder=encoder,
        llm=base_models["llm"],
        max_length=max_length,
        confidence=confidence,
    )
    return f"---\n{str(front.to_yaml()).strip()}\n---\n\n{body.strip()}\n"


def write_manifest(folder: Path, model: str, calibration: dict[str, Any], **sources: Any) -> None:
    """Write the manifest of a folder: the ONNX file to use, how to use it, all files' hashes, and its sources."""
    hashes = {path.name: hash_file(path) for path in sorted(folder.iterdir()) if path.name != MANIFEST}
    manifest = {"format": FORMAT, "model": model, "calibration": calibration, "files": hashes, **sources}
    write_json(folder / MANIFEST, manifest)


def hash_code(path: Path) -> str:
    """Return Git's id of a file or folder of code, ignoring Python's caches."""
    if path.is_file():
        kind, content = "blob", path.read_bytes()
    else:
        entries = [child for child in path.iterdir() if child.name != "__pycache__" and child.suffix != ".pyc"]
        # Git sorts folders as if their names ended with a slash.
        entries.sort(key=lambda child: child.name + "/" * child.is_dir())
        modes = [f"{40000 if child.is_dir() else 100644} {child.name}\0".encode() for child in entries]
        ids = [bytes.fromhex(hash_code(child)) for child in entries]
        kind, content = "tree", b"".join(part for entry in zip(modes, ids, strict=True) for part in entry)
    return hashlib.sha1(f"{kind} {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
