"""The average of a run's weights."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness.runs import error_line, run
from harness.tasks import write_experiment

import mtdnn_tf
from mtdnn_tf.training.weight_average import WeightAverage

DECAY = 0.9


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.weights[0].assign([[4.0], [8.0]])
    return model


def test_an_average_follows_the_weights_as_its_decay_says(model):
    average = WeightAverage(model, DECAY)
    average.start()
    kernel = model.weights[0]
    expected = kernel.numpy()
    step = 0
    for steps, value in ((1, 1.0), (10, -2.0), (500, 3.0), (7, 5.0)):
        step += steps
        kernel.assign([[value], [2 * value]])
        average.update(step, steps)
        kept = min(DECAY, (1 + step) / (10 + step)) ** steps
        expected = kept * expected + (1 - kept) * kernel.numpy()
        np.testing.assert_allclose(average.variables[kernel.path], expected, rtol=1e-6)
    # Of the first weights nothing is left, of those seven steps ago about half.
    np.testing.assert_allclose(expected, [[4.04], [8.09]], atol=0.01)


def test_the_weights_are_back_after_a_look_at_their_average(model):
    average = WeightAverage(model, DECAY)
    average.start()
    kernel = model.weights[0]
    kernel.assign([[1.0], [1.0]])
    with average.in_place():
        np.testing.assert_array_equal(kernel, [[4.0], [8.0]])
    np.testing.assert_array_equal(kernel, [[1.0], [1.0]])


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("averaging"), training={"epochs": 1})


@pytest.fixture(scope="module")
def averaged(config):
    """A run of one epoch, which is the best, with an average."""
    workdir = config.parent / "averaged"
    flags = [f"--set=training.average_decay={DECAY}", "--set=training.keep_checkpoints=99"]
    done = run("train", f"--config={config}", f"--workdir={workdir}", *flags)
    assert done.returncode == 0, done.stderr
    return workdir


def variables(workdir, which):
    path = tf.train.latest_checkpoint(str(workdir / "checkpoints" / which))
    return {name: tf.train.load_variable(path, name) for name, _ in tf.train.list_variables(path)}


@pytest.mark.long
def test_training_does_not_see_the_average(config, averaged, tmp_path):
    done = run("train", f"--config={config}", f"--workdir={tmp_path / 'run'}")
    assert done.returncode == 0, done.stderr
    with_average, plain = (variables(workdir, "last") for workdir in (averaged, tmp_path / "run"))
    names = [name for name in plain if name.startswith(("model/", "optimizer/"))]
    assert len(names) > 60
    for name in names:
        np.testing.assert_array_equal(with_average[name], plain[name], err_msg=name)


def test_the_best_model_is_the_average_and_is_what_was_evaluated(averaged, tmp_path):
    last, best = (variables(averaged, which) for which in ("last", "best"))
    records = map(json.loads, (averaged / "metrics.jsonl").read_text().splitlines())
    dev = [record for record in records if record["kind"] == "dev"]
    averages = {name: value for name, value in last.items() if name.startswith("average/")}
    assert len(averages) > 20
    first = str(averaged / "checkpoints/last/ckpt-0")
    kernel = next(name for name in averages if "head_mood" in name and "kernel" in name)
    begun = tf.train.load_variable(first, kernel.replace("average/", "model/", 1))
    assert (averages[kernel] != begun).any(), "it follows the weights"
    differs = 0
    for name, value in averages.items():
        of_model = name.replace("average/", "model/", 1)
        np.testing.assert_array_equal(best[of_model], value, err_msg=name)
        differs += (last[of_model] != value).any()
    assert differs > 20
    done = run("evaluate", f"--workdir={averaged}", f"--output={tmp_path / 'again.json'}")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "again.json").read_text())["metrics"]
    assert [record["metrics"] for record in dev] == [found]
    assert mtdnn_tf.load(averaged).predict("mood", ["the lamp is warm ."])


@pytest.mark.parametrize("value", ["1", "0", "-0.5", "much"])
def test_a_decay_that_is_none_is_told(value, tmp_path):
    path = write_experiment(tmp_path)
    done = run(
        "train",
        f"--config={path}",
        f"--workdir={tmp_path / 'run'}",
        f"--set=training.average_decay={value}",
    )
    assert done.returncode == 1
    assert "training.average_decay" in error_line(done)
