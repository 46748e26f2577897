"""What a run is built from, and how its steps are run."""

import math
from pathlib import Path

import pytest
import tensorflow as tf
from harness.tasks import write_experiment

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.experiment.settings import TrainingSettings
from mtdnn_tf.modeling import encoder_of, heads_of
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.loading import MTDNN
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer
from mtdnn_tf.training.run import TrainingRun
from mtdnn_tf.training.setup import uses_xla
from mtdnn_tf.training.step import Trainer


@pytest.mark.parametrize(
    ("device", "setting", "expected"),
    [
        ("CPU", "auto", False), ("CPU", "on", True), ("CPU", "off", False),
        ("GPU", "auto", True), ("GPU", "on", True), ("GPU", "off", False),
        # The strategy of a TPU compiles whatever it runs.
        ("TPU", "auto", False), ("TPU", "on", False), ("TPU", "off", False),
    ],
)  # fmt: skip
def test_xla_is_used_where_it_is_faster_or_asked_for(device, setting, expected, monkeypatch):
    monkeypatch.setattr(
        tf.config, "list_logical_devices", lambda kind: [kind] if kind in (device, "CPU") else []
    )
    assert uses_xla(TrainingSettings(xla=setting)) is expected


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("setup"))


@pytest.mark.parametrize("recompute", [True, False])
def test_the_settings_of_memory_reach_the_model(recompute, config, tmp_path):
    setting = f"training.recompute={str(recompute).lower()}"
    training = TrainingRun(load_experiment(config, [setting]), RunDirectory(tmp_path))
    assert encoder_of(training.model).recompute is recompute
    assert all(block.recompute is recompute for block in encoder_of(training.model).blocks)


def test_a_loop_of_steps_is_one_call_of_one_graph(config, tmp_path, monkeypatch):
    """As a TPU needs it: the host starts a loop, not a step."""
    traced = []
    step = Trainer.train_step
    monkeypatch.setattr(
        Trainer, "train_step", lambda self, batches: [traced.append(1), step(self, batches)][1]
    )
    training = TrainingRun(load_experiment(config), RunDirectory(tmp_path))
    trainer = training.trainer()
    for steps in (7, 5):
        assert trainer.train(tf.constant(steps))["steps"] == steps
    assert int(trainer.step.numpy()) == 12
    assert len(traced) <= 2


def test_an_output_that_is_no_number_names_its_row(config, tmp_path):
    experiment = load_experiment(config)
    training = TrainingRun(experiment, RunDirectory(tmp_path))
    vocab = Path(experiment.encoder.pretrained) / "vocab.txt"
    loaded = MTDNN(training.model, experiment, BertTokenizer.from_file(vocab))
    head = heads_of(training.model)["mood"]
    head.weights[-1].assign([math.nan, 0.0])
    with pytest.raises(
        UserError, match="mood: the model's output for row '0' is not a finite number"
    ):
        loaded.predict("mood", ["the lamp is warm ."])
    assert len(loaded.predict("near", [("a lamp", "a door")])) == 1
