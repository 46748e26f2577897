"""The fused optimizers against Keras' own, and their names."""

import keras
import numpy as np
import pytest

from mtdnn_tf.experiment.settings import TrainingSettings
from mtdnn_tf.training.optimizer import NO_WEIGHT_DECAY, build_optimizer, learning_rate_schedule


@pytest.mark.parametrize(
    ("name", "plain"), [("adamw", keras.optimizers.AdamW), ("adamax", keras.optimizers.Adamax)]
)
def test_updates_are_those_of_keras(name, plain):
    settings = TrainingSettings(optimizer=name, learning_rate=0.05, weight_decay=0.1)
    draw = np.random.default_rng(0)
    first = {"kernel": draw.normal(size=(5, 3)), "bias": draw.normal(size=3)}
    fused = build_optimizer(settings, learning_rate_schedule(settings, 20))
    other = plain(learning_rate_schedule(settings, 20), weight_decay=0.1)
    other.exclude_from_weight_decay(var_names=NO_WEIGHT_DECAY)
    ends = []
    for optimizer in (fused, other):
        variables = [
            keras.Variable(value, dtype="float32", name=key) for key, value in first.items()
        ]
        optimizer.build(variables)
        draw = np.random.default_rng(1)
        for _ in range(20):
            gradients = [draw.normal(size=v.shape).astype(np.float32) for v in variables]
            optimizer.apply(gradients, variables)
        ends.append([v.numpy() for v in variables])
    for mine, theirs, began in zip(*ends, first.values(), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)
        assert np.abs(mine - began).min() > 0.001


@pytest.mark.parametrize("settings", [{"optimizer": "adamw"}, {"precision": "mixed_float16"}])
def test_a_second_training_of_a_process_has_the_variables_of_the_first(settings):
    chosen = TrainingSettings(learning_rate=0.05, **settings)
    paths = []
    for _ in range(2):
        optimizer = build_optimizer(chosen, learning_rate_schedule(chosen, 20))
        optimizer.build([keras.Variable(1.0, name="kernel")])
        paths.append([variable.path for variable in optimizer.variables])
    assert paths[0] == paths[1]
