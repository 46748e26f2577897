import keras
import numpy as np
import pytest
import tensorflow as tf

from mtdnn_tf.evaluation.losses import example_losses, task_sums
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.experiment.settings import TrainingSettings
from mtdnn_tf.training.optimizer import WarmupLinearDecay, build_optimizer, learning_rate_schedule

TASKS = build_experiment({"tasks": ["cola", "stsb", "mnli"]}, "test").heads


def random_batch(rng, examples=12, empty=3):
    task = rng.integers(0, 3, examples).astype(np.int32)
    label = np.where(task == 1, rng.uniform(0, 5, examples), rng.integers(0, 2, examples))
    index = np.arange(examples, dtype=np.int32)
    index[-empty:], task[-empty:], label[-empty:] = -1, 0, 0
    logits = {t.name: rng.normal(size=(examples, t.output_size)).astype(np.float32) for t in TASKS}
    batch = {"task": task, "label": label.astype(np.float32), "index": index}
    return batch | {"group": np.arange(examples, dtype=np.int32)}, logits


def test_each_example_has_the_loss_of_its_own_task():
    batch, logits = random_batch(np.random.default_rng(0))
    losses = example_losses(TASKS, logits, batch).numpy()
    for i, (task, label) in enumerate(zip(batch["task"], batch["label"], strict=True)):
        output = logits[TASKS[task].name][i].astype(np.float64)
        if task == 1:
            expected = (output[0] - label) ** 2
        else:
            expected = np.log(np.exp(output).sum()) - output[int(label)]
        assert losses[i] == pytest.approx(expected, rel=1e-5)


def test_a_head_gets_no_gradient_from_another_tasks_examples():
    batch, logits = random_batch(np.random.default_rng(1))
    logits = {name: tf.constant(value) for name, value in logits.items()}
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = tf.reduce_sum(example_losses(TASKS, logits, batch))
    gradients = tape.gradient(loss, logits)
    for position, task in enumerate(TASKS):
        others = batch["task"] != position
        assert not gradients[task.name].numpy()[others].any()
        assert gradients[task.name].numpy()[~others].any()


def test_sums_count_real_examples_only():
    batch, logits = random_batch(np.random.default_rng(2))
    losses = example_losses(TASKS, logits, batch)
    sums = task_sums(3, losses, batch).numpy()
    real = batch["index"] >= 0
    for position in range(3):
        here = real & (batch["task"] == position)
        assert sums[position, 1] == here.sum()
        assert sums[position, 0] == pytest.approx(losses.numpy()[here].sum(), rel=1e-5)


def test_the_learning_rate_warms_up_and_decays_linearly():
    schedule = WarmupLinearDecay(1.0, warmup_steps=4, total_steps=12)
    rates = [float(schedule(step)) for step in range(12)]
    assert rates[:4] == pytest.approx([0.25, 0.5, 0.75, 1.0])
    assert rates[4:] == pytest.approx([1 - i / 8 for i in range(8)])


def test_without_warmup_the_first_step_has_the_peak():
    settings = TrainingSettings(warmup_proportion=0, learning_rate=0.5)
    assert float(learning_rate_schedule(settings, 10)(0)) == pytest.approx(0.5)


@pytest.mark.parametrize("name", ["adamax", "adamw"])
def test_weight_decay_spares_biases_and_layer_norm(name):
    settings = TrainingSettings(
        optimizer=name, weight_decay=0.5, learning_rate=0.1, warmup_proportion=0
    )
    optimizer = build_optimizer(settings, learning_rate_schedule(settings, 10**9))
    variables = [
        tf.keras.Variable(np.ones(2, np.float32), name=n)
        for n in ("kernel", "word", "bias", "gamma", "beta")
    ]
    optimizer.build(variables)
    optimizer.apply([tf.zeros(2)] * 5, variables)
    after = {v.name: float(v.numpy()[0]) for v in variables}
    for spared in ("bias", "gamma", "beta"):
        assert after[spared] == 1.0
    for decayed in ("kernel", "word"):
        assert after[decayed] == pytest.approx(0.95, rel=1e-5)


@pytest.mark.parametrize("name", ["adamax", "adamw"])
def test_heads_learn_at_a_rate_of_their_own(name):
    settings = TrainingSettings(
        optimizer=name,
        learning_rate=0.01,
        head_learning_rate=0.05,
        weight_decay=0,
        warmup_proportion=0,
    )
    optimizer = build_optimizer(settings, learning_rate_schedule(settings, 10**9))
    layers = [keras.layers.Dense(1, name=n) for n in ("encoder", "head_a")]
    for layer in layers:
        layer.build((None, 3))
    variables = [layer.kernel for layer in layers]
    before = [variable.numpy() for variable in variables]
    optimizer.build(variables)
    optimizer.apply([tf.ones([3, 1])] * 2, variables)
    moved = [old - new.numpy() for old, new in zip(before, variables, strict=True)]
    np.testing.assert_allclose(moved[0], 0.01, rtol=1e-4)
    np.testing.assert_allclose(moved[1], 0.05, rtol=1e-4)
