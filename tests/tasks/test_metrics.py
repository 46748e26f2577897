import math
import warnings

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from mtdnn_tf.evaluation.baseline import majority_baseline
from mtdnn_tf.tasks import builtin_tasks
from mtdnn_tf.tasks.metrics import compute, task_score

BINARY = ("accuracy", "f1", "macro_f1", "matthews")
CORRELATIONS = ("pearson", "spearman")


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def pairs(values):
    return st.lists(st.tuples(values, values), min_size=1, max_size=40).map(np.array)


def tables(labels, predictions):
    """True positives, false positives, false negatives, true negatives of class 1."""
    return [
        int(((labels == y) & (predictions == p)).sum()) for y, p in ((1, 1), (0, 1), (1, 0), (0, 0))
    ]


def f1(tp, fp, fn):
    return 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else 0.0


@given(pairs(st.integers(0, 1)))
def test_metrics_of_two_classes_are_their_formulae(rows):
    labels, predictions = rows[:, 0].astype(np.float32), rows[:, 1]
    tp, fp, fn, tn = tables(labels, predictions)
    assert compute("accuracy", labels, predictions) == pytest.approx((tp + tn) / len(rows))
    assert compute("f1", labels, predictions) == pytest.approx(f1(tp, fp, fn))
    scores = [f1(tp, fp, fn)] * bool(tp + fp + fn) + [f1(tn, fn, fp)] * bool(tn + fn + fp)
    assert compute("macro_f1", labels, predictions) == pytest.approx(np.mean(scores))
    product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    matthews = (tp * tn - fp * fn) / math.sqrt(product) if product else 0.0
    assert compute("matthews", labels, predictions) == pytest.approx(matthews)


@given(pairs(st.integers(0, 3)))
def test_metrics_of_many_classes_are_those_of_scikit_learn(rows):
    labels, predictions = rows[:, 0], rows[:, 1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert compute("accuracy", labels, predictions) == sk.accuracy_score(labels, predictions)
        assert compute("matthews", labels, predictions) == sk.matthews_corrcoef(labels, predictions)
        assert compute("macro_f1", labels, predictions) == sk.f1_score(
            labels, predictions, average="macro"
        )


def correlation_by_hand(x, y):
    x, y = x - x.mean(), y - y.mean()
    return (x * y).sum() / math.sqrt((x * x).sum() * (y * y).sum())


@given(pairs(st.integers(-50, 50).map(lambda n: n / 10)))
def test_correlations_are_their_formulae(rows):
    labels, predictions = rows[:, 0], rows[:, 1]
    assume(np.ptp(labels) > 0 and np.ptp(predictions) > 0)
    by_hand = correlation_by_hand(labels, predictions)
    assert compute("pearson", labels, predictions) == pytest.approx(by_hand, abs=1e-9)
    by_hand = correlation_by_hand(stats.rankdata(labels), stats.rankdata(predictions))
    assert compute("spearman", labels, predictions) == pytest.approx(by_hand, abs=1e-9)


@given(pairs(st.integers(0, 1)), st.sampled_from(BINARY + CORRELATIONS))
def test_every_metric_is_a_fraction_and_perfect_answers_score_highest(rows, metric):
    labels, predictions = rows[:, 0], rows[:, 1]
    assert -1 <= compute(metric, labels, predictions) <= 1 + 1e-12
    assume(np.ptp(labels) > 0)
    assert compute(metric, labels, labels) == pytest.approx(1)


@pytest.mark.parametrize("metric", ["matthews", *CORRELATIONS])
@pytest.mark.parametrize(
    ("labels", "predictions"),
    [([0, 1, 1], [1, 1, 1]), ([1, 1], [0, 1]), ([1, 1], [1, 1]), ([1], [1])],
)
def test_a_correlation_with_constants_is_zero_without_a_warning(metric, labels, predictions):
    assert compute(metric, np.array(labels), np.array(predictions)) == 0


def test_a_correlation_with_almost_constant_predictions_gives_no_warning():
    predictions = np.array([1.0, 1.0, np.nextafter(1.0, 2)])
    for metric in CORRELATIONS:
        assert -1 <= compute(metric, np.array([0.0, 2.0, 5.0]), predictions) <= 1


@pytest.mark.parametrize("metric", [*BINARY, *CORRELATIONS])
@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([], [], "no labels"),
        ([0, 1], [0], "labels \\(2,\\) and predictions \\(1,\\)"),
        ([[0, 1]], [[0, 1]], "labels \\(1, 2\\)"),
        ([0, 1], [0, math.nan], "predictions are not all finite"),
        ([0, 1], [math.inf, 1], "predictions are not all finite"),
        ([math.nan, 1], [0, 1], "labels are not all finite"),
    ],
)
def test_what_has_no_score_is_an_error(metric, labels, predictions, message):
    with pytest.raises(ValueError, match=message):
        compute(metric, np.array(labels), np.array(predictions))


def test_class_metrics_want_class_ids():
    with pytest.raises(ValueError, match="predictions are not all class ids"):
        compute("accuracy", np.array([0, 1]), np.array([0.2, 0.9]))
    with pytest.raises(ValueError, match="labels are not all class ids"):
        compute("accuracy", np.array([-1, 1]), np.array([0, 1]))
    with pytest.raises(ValueError, match="not all 0 or 1"):
        compute("f1", np.array([0, 1]), np.array([0, 2]))


@pytest.mark.parametrize("metric", ["accuracy", "macro_f1", "matthews"])
def test_memory_is_linear_in_the_number_of_classes(metric):
    labels = np.arange(0, 200_000, 20)
    assert compute(metric, labels, labels) == pytest.approx(1)


def test_an_unknown_metric_is_an_error():
    with pytest.raises(ValueError, match="no metric is called 'bleu'"):
        compute("bleu", np.array([0]), np.array([0]))


def test_the_score_of_a_task_is_the_mean_over_splits_of_the_mean_of_metrics():
    assert task_score({"dev": {"f1": 0.9, "accuracy": 0.7}}) == pytest.approx(0.8)
    assert task_score(
        {"dev_matched": {"accuracy": 0.5}, "dev_mismatched": {"f1": 0.6, "accuracy": 1.0}}
    ) == pytest.approx(0.65)


@pytest.mark.parametrize("metrics", [{}, {"dev": {}}])
def test_a_score_of_nothing_is_an_error(metrics):
    with pytest.raises(ValueError, match="needs a metric of every split"):
        task_score(metrics)


def test_the_baseline_of_classes_is_the_most_frequent_of_train():
    train, dev = np.array([0, 1, 1], np.float32), np.array([1, 0, 0, 1, 1], np.float32)
    baseline = majority_baseline(builtin_tasks()["mrpc"], train, dev)
    assert baseline == {"f1": pytest.approx(0.75), "accuracy": pytest.approx(0.6)}


def test_of_equally_frequent_classes_the_baseline_takes_the_first():
    baseline = majority_baseline(builtin_tasks()["rte"], np.array([1, 0]), np.array([0, 0, 1, 0]))
    assert baseline == {"accuracy": 0.75}


def test_the_baseline_of_scores_is_their_mean_which_correlates_with_nothing():
    train, dev = np.array([1.0, 4.0]), np.array([0.0, 2.0, 5.0])
    baseline = majority_baseline(builtin_tasks()["stsb"], train, dev)
    assert baseline == {"pearson": 0.0, "spearman": 0.0}


def test_a_baseline_needs_train_labels():
    with pytest.raises(ValueError, match="no train labels"):
        majority_baseline(builtin_tasks()["rte"], np.array([]), np.array([1]))
