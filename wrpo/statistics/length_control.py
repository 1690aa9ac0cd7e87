"""AlpacaEval's length-controlled win rate, `length_controlled_v1` of alpaca-eval 0.6.6.

A logistic regression of the preference of one model against the baseline,

    logit P(model preferred) = a * tanh(d / sd(d)) + b * difficulty + c

with d = length of the baseline's response - length of the model's, in characters, and a difficulty
per instruction that is shared by all models. The win rate is the mean prediction at d = 0. The
data of two "gamed" baselines (told to be concise, and verbose) are added with weight 0.2 / 2 each
and c left out, so that a, the effect of length, stays near what it is for one and the same model.
The strength of the L1 penalty is chosen by 5-fold cross-validation.

Source: Dubois et al., Length-Controlled AlpacaEval (arXiv 2404.04475), and the package. The fit
is scikit-learn's, with the package's seed and order of rows, so that the numbers are the same.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from wrpo.errors import DataError
from wrpo.statistics.intervals import Floats

_GAMED_WEIGHT = 0.2 / 2
_FOLDS = 5
_SEED = 123
_LEAST_CLASS = 1e-15


@dataclass(frozen=True)
class Gamed:
    """df_gamed.csv: preferences of the gamed baselines, and each instruction's difficulty.

    Attributes:
        delta: standardised length differences, shape (rows,).
        preference: in [0, 1].
        row_difficulty: difficulty of the row's instruction.
        difficulty: instruction number to difficulty.
    """

    delta: Floats
    preference: Floats
    row_difficulty: Floats
    difficulty: dict[int, float]


@dataclass(frozen=True)
class LengthControlled:
    """Win rate and standard error in percent; predictions at equal length, one per prompt."""

    win_rate: float
    standard_error: float
    predictions: Floats
    weights: tuple[float, float, float]


def read_gamed(path: Path) -> Gamed:
    """Reads df_gamed.csv.

    Raises:
        DataError: a column is missing.
    """
    import pyarrow.csv as csv
    from pyarrow import ArrowException

    try:
        table = csv.read_csv(path)
        index = table["index"].to_pylist()
        row_difficulty = _column(table["instruction_difficulty"])
        gamed = Gamed(
            _column(table["std_delta_len"]), _column(table["preference"]), row_difficulty, {}
        )
    except (KeyError, ArrowException, ValueError) as error:
        raise DataError(f"{path}: not AlpacaEval's df_gamed.csv ({error})") from None
    for number, value in zip(index, row_difficulty, strict=True):
        gamed.difficulty.setdefault(int(number), float(value))
    return gamed


def length_controlled(
    preference: Floats,
    *,
    model_lengths: Floats,
    baseline_lengths: Floats,
    numbers: list[int],
    gamed: Gamed,
) -> LengthControlled:
    """The length-controlled win rate of one model.

    Args:
        preference: probability that the model's response is preferred, shape (prompts,); NaN where
            there is no verdict: such prompts are not fitted but predicted.
        model_lengths, baseline_lengths: characters.
        numbers: place of each prompt's instruction in the published file.

    Raises:
        DataError: an instruction has no difficulty, or all lengths differ by the same number.
    """
    unknown = [number for number in numbers if number not in gamed.difficulty]
    if unknown:
        raise DataError(
            f"df_gamed.csv has no difficulty for {len(unknown)} instructions, e.g. number "
            f"{unknown[0]}; it goes with the 805 instructions of AlpacaEval in their order"
        )
    difficulty = np.array([gamed.difficulty[number] for number in numbers])
    differences = baseline_lengths - model_lengths
    spread = float(differences.std(ddof=1)) if len(differences) > 1 else 0.0
    if not spread > 0:
        raise DataError("length control needs responses whose lengths differ from the baseline's")
    own = _features(differences / spread, difficulty, own=True)
    at_equal_length = _features(np.zeros_like(differences), difficulty, own=True)
    features = np.concatenate([_features(gamed.delta, gamed.row_difficulty, own=False), own])
    weight = np.concatenate([np.full(len(gamed.delta), _GAMED_WEIGHT), np.ones(len(own))])
    target = np.concatenate([gamed.preference, preference])
    known = ~np.isnan(target)
    predictions, weights = _fit(features[known], target[known], weight[known], at_equal_length)
    error = float(predictions.std(ddof=1) / np.sqrt(len(predictions)))
    return LengthControlled(100 * float(predictions.mean()), 100 * error, predictions, weights)


def _column(values: object) -> Floats:
    return np.asarray(values, dtype=np.float64)


def _features(delta: Floats, difficulty: Floats, *, own: bool) -> Floats:
    """(rows, 3): length, difficulty, and 1 for the model's own rows."""
    return np.column_stack([np.tanh(delta), difficulty, np.full(len(delta), float(own))])


def _fit(
    features: Floats, target: Floats, weight: Floats, predicted: Floats
) -> tuple[Floats, tuple[float, float, float]]:
    """Predictions, and weights of the features.

    A probability p becomes a row of class 1 with weight p and one of class 0 with weight 1 - p.
    """
    import sklearn  # type: ignore[import-untyped]
    from sklearn.linear_model import LogisticRegressionCV  # type: ignore[import-untyped]
    from sklearn.metrics import make_scorer  # type: ignore[import-untyped]
    from sklearn.model_selection import GroupKFold  # type: ignore[import-untyped]

    probability = np.concatenate([target, 1.0 - target])
    row_weight = np.concatenate([weight, weight])
    classes = np.repeat([1, 0], len(target))
    groups = np.tile(np.arange(len(target)), 2)
    with warnings.catch_warnings(), sklearn.config_context(enable_metadata_routing=True):
        # `penalty` goes in scikit-learn 1.10, but alpaca-eval fits with it.
        warnings.simplefilter("ignore", FutureWarning)
        scorer = make_scorer(_log_loss, response_method="predict_proba", greater_is_better=False)
        model = LogisticRegressionCV(
            cv=GroupKFold(n_splits=_FOLDS),
            scoring=scorer.set_score_request(probability=True, weight=True),
            random_state=_SEED,
            penalty="l1",
            solver="liblinear",
            fit_intercept=False,
        )
        model.set_fit_request(sample_weight=True)
        model.fit(
            np.concatenate([features, features]),
            classes,
            sample_weight=probability * row_weight,
            groups=groups,
            probability=probability,
            weight=row_weight,
        )
    length, difficulty, own = (float(value) for value in model.coef_[0])
    return model.predict_proba(predicted)[:, 1], (length, difficulty, own)


def _log_loss(classes: Floats, predicted: Floats, probability: Floats, weight: Floats) -> float:
    """Mean weighted cross-entropy with probabilities as targets."""
    target = np.where(classes == 1, probability, 1.0 - probability)
    p = np.clip(predicted, _LEAST_CLASS, 1.0 - _LEAST_CLASS)
    return float(-np.mean(weight * (target * np.log(p) + (1.0 - target) * np.log(1.0 - p))))
