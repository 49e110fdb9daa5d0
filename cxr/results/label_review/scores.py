"""Scores of images by heads that have not seen the labels of their patients, and what they dispute."""

import warnings
from typing import Any

import numpy as np
import pandas as pd

from cxr.core.errors import DataError
from cxr.core.settings import LABEL_NAMES

FOLDS = 10  # at most: as many as the rarer class has patients
PENALTY = 1e-2  # of the squared weights, beside the mean log loss; bench/label_review.py compares
_ITERATIONS = 200  # of L-BFGS, at most
Array = np.ndarray[Any, Any]


def out_of_fold_scores(
    features: Array,
    labels: Array,
    patients: Array,
    seed: int = 0,
    penalty: float = PENALTY,
) -> Array:
    """Score each image by a head that was fitted to the images of other patients.

    The head is logistic regression, and the folds have about the same share of each class.

    Args:
        features: Pooled features of a network that has learned from none of the labels, (n, width).
        labels: 0 or 1 for each image, int (n,).
        patients: The patient of each image, text (n,).
        seed: Of the division into folds.
        penalty: Of the squared weights, beside the mean log loss.

    Returns:
        The probability of PNEUMONIA, float (n,).

    Raises:
        DataError: A class has fewer than two patients.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from threadpoolctl import threadpool_limits

    fewest = min(len(np.unique(patients[labels == label])) for label in (0, 1))
    if fewest < 2:
        raise DataError(
            f"expected two patients or more of each class, found {fewest}: labels cannot be reviewed "
            "by scores of heads that have not seen them"
        )
    folds = StratifiedGroupKFold(
        min(FOLDS, fewest),
        shuffle=True,
        random_state=seed,
    )
    scores = np.zeros(len(labels))
    for learned, scored in folds.split(features, labels, patients):
        head = LogisticRegression(
            C=1 / (2 * penalty * len(learned)),
            max_iter=_ITERATIONS,
        )
        # The products are small: with several threads, they would only wait for each other.
        with warnings.catch_warnings(), threadpool_limits(1):
            # The last digits of the weights change no rank.
            warnings.simplefilter("ignore", ConvergenceWarning)
            head.fit(features[learned], labels[learned])
            scores[scored] = head.predict_proba(features[scored])[:, 1]
    return scores


def self_confidence(labels: Array, scores: Array) -> Array:
    """Return the probability of the label that each image has, float (n,).

    By it labels are ranked, the least first (Kuan and Mueller, "Model-agnostic label quality scoring
    to detect real-world label errors", ICML DataPerf 2022). It found as many changed labels as the
    rankings that cost more (bench/label_review.py).

    Args:
        labels: 0 or 1, int (n,).
        scores: The probability of PNEUMONIA, float (n,).
    """
    return np.where(labels == 1, scores, 1 - scores)


def disputed(labels: Array, scores: Array) -> Array:
    """Return which labels confident learning takes for wrong, bool (n,).

    An image is disputed if the other label is the likelier one, and as likely as it is on average
    for images that have it: for two classes, the off-diagonal of the confident joint (Northcutt,
    Jiang and Chuang, "Confident learning", JAIR 70, 2021). A test compares with cleanlab.

    Args:
        labels: 0 or 1, int (n,).
        scores: Out-of-fold probability of PNEUMONIA, float (n,).
    """
    confidence = self_confidence(labels, scores)
    averages = np.array([confidence[labels == label].mean() for label in (0, 1)])
    other = 1 - confidence
    found: Array = (other > confidence) & (other >= averages[1 - labels])
    return found


def rank_labels(scored: pd.DataFrame) -> pd.DataFrame:
    """Return images in the order in which their labels are to be looked at.

    Args:
        scored: label and score (probability of PNEUMONIA by who has not seen the label) of each
            image; other columns stay.

    Returns:
        The rows with given_label, suggested_label and self_confidence, the least confident first;
        equals stay in their order.
    """
    labels = scored["label"].to_numpy()
    scores = scored["score"].to_numpy()
    names = dict(enumerate(LABEL_NAMES))
    suggested = pd.Series((scores >= 0.5).astype(int), scored.index)
    ranked = scored.assign(
        given_label=scored["label"].map(names),
        suggested_label=suggested.map(names),
        self_confidence=self_confidence(labels, scores).round(4),
    )
    return ranked.sort_values("self_confidence", kind="stable").reset_index(drop=True)
