"""The model card of a shipped student, in the Hugging Face hub's format.

Text of a task's rubric is data: Markdown in it is escaped, and the front matter is written by the hub's own library.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from amalgam.shipping.calibration import Calibration

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


@dataclass(frozen=True, slots=True)
class CardContent:
    """What the card says.

    Attributes:
        task: fields of task.yaml: `name`, `title`, `response`, `licence`, `citation`.
        labels: definition of each label by name, in class order.
        max_length: tokens a text.
        model: the ONNX file that ships.
        precision: the figures by which it was chosen; see `amalgam.shipping.fidelity`.
        allowed_loss: AUC that 8-bit integers may lose.
        calibration: the thresholds.
        seed: of the student that ships.
        metrics: as in metrics/models.json.
        size: `megabytes` and `rows_per_second` of what ships, as in metrics/summary.json.
        selective: as in metrics/selective.json.
        data: as in metrics/data.json.
        confidence: of the intervals.
        base_model: note of the encoder: `name`, `licence`, `source`.
        llm: likewise of the language model.
    """

    task: Mapping[str, str]
    labels: Mapping[str, str]
    max_length: int
    model: str
    precision: Mapping[str, Any]
    allowed_loss: float
    calibration: Calibration
    seed: int
    metrics: Mapping[str, Any]
    size: Mapping[str, float]
    selective: Mapping[str, Any]
    data: Mapping[str, Any]
    confidence: float
    base_model: Mapping[str, str]
    llm: Mapping[str, str]


def build_card(content: CardContent) -> str:
    """Build the card: YAML front matter and Markdown."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
        autoescape=False,  # it is not HTML: texts from elsewhere go through the filter `plain`
    )
    environment.filters["plain"] = escape_markdown
    template = environment.from_string(files("amalgam.shipping").joinpath("card.md.j2").read_text(encoding="utf-8"))
    body = template.render(
        card=content,
        measures=_list_measures(content.metrics),
        models=_list_models(content.metrics),
    )
    return f"---\n{_build_front_matter(content)}\n---\n\n{body.strip()}\n"


def escape_markdown(text: str) -> str:
    """Return a text on one line in which nothing is markup, a link, a mention or HTML."""
    return _MARKUP.sub(r"\\\1", " ".join(str(text).split()))


def _build_front_matter(content: CardContent) -> str:
    from huggingface_hub import EvalResult, ModelCardData

    source = content.base_model.get("source", "").partition("@")[0]
    results = [
        EvalResult(
            task_type="text-classification",
            task_name=" ".join(content.task["title"].split()),
            dataset_type=content.task["name"],
            dataset_name=content.task["name"],
            dataset_split="test",
            metric_type=kind,
            metric_name=f"{name}, mean of seeds, {content.confidence:.0%} interval {low:.3f} to {high:.3f}",
            metric_value=value,
        )
        for kind, name, value, low, high in _list_intervals(content.metrics.get("student", {}))
    ]
    data = ModelCardData(
        base_model=source if re.fullmatch(r"[\w.-]+/[\w.-]+", source) else None,
        library_name="transformers",
        license="other",
        license_name="see-licences-below",
        license_link="#licences",
        model_name=f"amalgam-{content.task['name']}",
        pipeline_tag="text-classification",
        tags=["amalgam", "knowledge-distillation", "onnx", "synthetic-data"],
        eval_results=results,
    )
    return str(data.to_yaml()).strip()


def _list_intervals(metrics: Mapping[str, Any]) -> list[tuple[str, str, float, float, float]]:
    return [
        (kind, name, metrics[key], metrics[f"{key}_low"], metrics[f"{key}_high"])
        for key, kind, name in _MEASURES
        if f"{key}_low" in metrics
    ]


def _list_measures(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [(key, name) for key, _, name in _MEASURES if f"{key}_low" in metrics.get("student", {})]


def _list_models(metrics: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    return [(name, metrics[key]) for key, name in _MODELS.items() if key in metrics]


def _finalize(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
