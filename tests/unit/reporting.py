"""What the tests of the report share: the content of a small invented run, in which every section has something."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from amalgam.report.content import Content
from amalgam.report.rows import list_mistakes

HOSTILE = """<script>alert(1)</script> </script><img src=x onerror="alert(2)"> {{7*7}} {% raw %} =1+1 '"&amp; \u2028"""
METRICS = {"auc": 0.874, "macro_f1": 0.8, "accuracy": 0.81, "kappa": 0.6, "brier": 0.1, "ece": 0.05}


def make_estimates(values: dict[str, float], half: float = 0.02) -> dict[str, float]:
    """Return the values with intervals."""
    lows = {f"{name}_low": value - half for name, value in values.items()}
    return values | lows | {f"{name}_high": value + half for name, value in values.items()}


def make_difference(low: float, high: float, name: str = "auc") -> dict[str, Any]:
    """Return a metric or difference in the middle of an interval."""
    return {name: (low + high) / 2, f"{name}_low": low, f"{name}_high": high}


def make_content(text: str = "fine", *, metrics: dict[str, Any] | None = None, **changes: Any) -> Content:
    """Return the content of a run; `text` is used wherever a text is free; `metrics` override those of the run."""
    params = {
        **{"ratio": 0.8, "human_rows": 51, "seeds": [1, 2], "synthesis": {"source": "write", "temperature": 0.7}},
        **{"evaluation": {"confidence": 0.95}, "shipping": {"agreement": 0.9}, "llm": {"model": text, "body": {}}},
    }
    content = Content(
        **dict.fromkeys(("title", "response", "licence", "citation"), text),
        labels={"no": text, "yes": text},
        params=params,
        metrics=_make_metrics(text) | (metrics or {}),
        plots={
            "roc": pd.DataFrame({"model": "teacher", "label": "yes", "fpr": [0, 1], "tpr": [0, 1]}),
            "calibration": pd.DataFrame({"model": ["teacher"], "confidence": [0.7], "share": [0.6], "rows": [30]}),
            "confusion": pd.DataFrame({"model": ["teacher"], "actual": ["no"], "predicted": ["yes"]}),
            "training": pd.DataFrame(
                {"model": ["teacher"], "seed": 1, "step": 5, "loss": np.nan, "validation_loss": 0.5}
            ),
        },
        pool=make_pool([text]),
        mistakes=make_mistakes([text]),
        base_models={"Language model": {"name": text, "files": {text: text}}},
        inputs={"data/mixed.csv": "0" * 64},
        versions={"python": "3.11"},
    )
    return replace(content, **changes)


def make_pool(texts: list[str]) -> pd.DataFrame:
    """Return a kept row for each text, and one that was rejected."""
    row = {"question": "", "label": "no", "judged": "", "reason": "", "detail": ""}
    kept = [row | {"text": text, "label": "no" if number % 2 else "yes"} for number, text in enumerate(texts)]
    return pd.DataFrame([*kept, row | {"text": "half a", "reason": "cut_off", "detail": texts[0], "judged": "yes"}])


def make_mistakes(texts: list[str]) -> pd.DataFrame:
    """Return a mistake for each text, the first the most confident."""
    rows = pd.DataFrame({"id": texts, "text": texts, "question": "", "label": "no"})
    yes = np.linspace(0.9, 0.6, len(texts))
    stack = np.stack([np.stack([1 - yes, yes], axis=1)] * 2)
    return list_mistakes(rows, {"student": stack, "teacher": stack}, ["no", "yes"])


def _make_metrics(text: str) -> dict[str, Any]:
    run = {"seed_1": {"steps": 20, "best_step": 10, "validation_loss": 0.5, "train_rows": 10}}
    models = ("teacher", "student", "human_only", "embedding_lr", "tfidf_lr")
    group = {"rows": 90, "small": 0, "teacher": make_estimates({"auc": 0.8, "fpr": 0.1, "auc_minus_rest": -0.1})}
    group["teacher"] |= {"abroca": 0.03, "abroca_chance": 0.06}
    distance = {"mmd2": 0.03, "mmd2_chance": 0.004, "mmd2_p": 0.0005, "rows": 9, "human_rows": 9}
    usage = {"requests": 3, "prompt_tokens": 12345, "completion_tokens": 7}
    statistics = {
        **{"distinct_1": 0.2, "human_distinct_1": 0.3, "words": 20.0, "words_sd": 5.0, "human_words": 18.0},
        **{"near_duplicate_rate": 0.01, "mmd": {"all": distance, "yes": distance}},
        **make_estimates({"two_sample_auc": 0.9}),
    }
    guard = {
        **{"helps": 1, "recognised": 1, "label_auc": 0.8, "least_label_auc": 0.65, "folds": 5, "rows": 51},
        **{"human_only_auc": 0.82, "with_synthetic_auc": 0.83},
        **{"difference": 0.01, "difference_error": 0.02, "difference_low": -0.03, "difference_high": 0.05},
    }
    rejected = {"empty": 2, "refusal": 0}
    return {
        "models": {name: make_estimates(METRICS) for name in models},
        "comparisons": {
            "gain_over_human_only": make_difference(0.1, 0.2),
            "gain_over_best_baseline": {**make_difference(-0.1, 0.2), "baseline": "tfidf_lr"},
            "student_minus_teacher": make_difference(-0.2, -0.1),
            "retention": {"auc_above_chance": 0.98},
        },
        "data": {
            "rows": {"train": 41, "test": 1500, "unlabelled": 800},
            "labels": {"train": {"no": 20, "yes": 21}, "test": {"no": 750, "yes": 750}},
            "rater_kappa": 0.68,
            "learned": {"human": 41, "synthetic": 164},
            "held_out": 10,
        },
        "synthetic": {
            "synthesis": {"responses": 2, "kept": 1, "rejected": rejected, "kept_by_label": {"no": 1}},
            "judge": {"rows": 3, "unparsed": 1, "accuracy": 0.5, "kappa": 0.1, "f1": 0.4},
            "synthetic": statistics,
        },
        "training": {"training": {"teacher": run, "student": run}, "guard": guard},
        "speed": {
            **{"teacher_rows_per_second": 230.0, "student_rows_per_second": 430.0, "speedup": 1.9, "size_ratio": 0.766},
            **{"teacher_megabytes": 90.9, "student_megabytes": 69.6, "student_int8_megabytes": 17.6},
        },
        "summary": {
            "student": make_estimates({"auc": 0.874})
            | {"retention": 0.98, "coverage": 0.53, "agreement": 0.95}
            | {"rows_per_second": 430.0, "megabytes": 69.6, "bits": 32},
            "gain": make_estimates({"over_human_only": 0.15}),
            "llm": {"requests": 3, "usd": 1.5},
        },
        "cost": {"synthesis": usage, "llm": usage | {"cost_usd": 1.5}},
        "ceiling": {"human_ceiling": {"rows": 480, "raters": 2, "accuracy": 0.8, "kappa": 0.69}},
        "subgroups": {"subgroups": {text: {text: group, "other": {"rows": 4, "small": 1}}}},
        "periods": {"periods": {text: group}},
        "selective": {"selective": {"rows": 500, "coverage": 0.53, **make_estimates({"agreement": 0.95})}},
    }
