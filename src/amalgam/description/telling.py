"""Whether a classifier can tell two sets of embeddings apart: the two-sample AUC."""

import numpy as np

from amalgam.evaluation.bootstrap import draw_resamples, estimate_metrics, summarise_estimates
from amalgam.evaluation.metrics import Floats
from amalgam.params import Evaluation

_FOLDS = 5


def measure_telling(first: Floats, second: Floats, params: Evaluation) -> dict[str, float]:
    """Return `auc`, `auc_low` and `auc_high` of logistic regression that tells the first set from the second.

    Each row is scored by a classifier that has not seen it (Lopez-Paz and Oquab, 2017, arXiv 1610.06545). 0.5: they
    cannot be told apart. The interval covers the rows, not the draw of the folds. Empty where a set has fewer rows
    than there are folds.

    Args:
        first: vectors [n, width].
        second: vectors [m, width].
        params: seed, resamples and confidence.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    if min(len(first), len(second)) < _FOLDS:
        return {}
    vectors = np.concatenate([first, second])
    sides = np.repeat([1, 0], [len(first), len(second)])
    # Balanced weights: the intercept of a fold would otherwise follow its shares, which then rank rows across folds.
    classifier = LogisticRegression(class_weight="balanced", max_iter=2000)
    folds = StratifiedKFold(_FOLDS, shuffle=True, random_state=params.seed)
    scores = cross_val_predict(classifier, vectors, sides, cv=folds, method="predict_proba")
    rng = np.random.default_rng(params.seed)
    resamples = draw_resamples(sides, None, resamples=params.resamples, rng=rng)
    auc = estimate_metrics(sides, scores[None], resamples, ordinal=False)["auc"]
    return summarise_estimates({"auc": auc}, params.confidence)
