"""Two replicas take the same steps as one: gradients are summed first, then clipped."""

import json

import numpy as np
import pytest
import tensorflow as tf
from tiny import run, write_experiment

TWO_REPLICAS = """
import sys
from pathlib import Path
import tensorflow as tf
tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2)
from mtdnn_tf.config import load_experiment
from mtdnn_tf.training.training import train
experiment = load_experiment(Path(sys.argv[1]), sys.argv[3:])
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    assert tf.distribute.get_strategy().num_replicas_in_sync == 2
    train(experiment, Path(sys.argv[2]))
"""
NO_DROPOUT = {
    "encoder": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "training": {"epochs": 1, "clip_norm": 0.3, "learning_rate": 0.001},
}


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.mark.parametrize("batch_by", ["example", "task"])
def test_one_replica_equals_two(batch_by, tmp_path):
    path = write_experiment(tmp_path, mixture={"batch_by": batch_by}, **NO_DROPOUT)
    off = [f"tasks.{name}.dropout=0" for name in ("mood", "same", "near")]
    one = run(
        "train", f"--config={path}", f"--workdir={tmp_path / '1'}", *(f"--set={x}" for x in off)
    )
    assert one.returncode == 0, one.stderr
    two = run("", path, tmp_path / "2", *off, script=TWO_REPLICAS)
    assert two.returncode == 0, two.stderr

    first, second = records(tmp_path / "1"), records(tmp_path / "2")
    assert len(first) == len(second) > 5
    norms = [record["gradient_norm"] for record in first if record["kind"] == "train"]
    assert min(norms) > 0.3, "clipping must be active, or this test shows little"
    for a, b in zip(first, second, strict=True):
        assert a["step"] == b["step"]
        if a["kind"] == "train":
            assert a["examples"] == b["examples"]
            assert a["loss"] == pytest.approx(b["loss"], rel=1e-5)
            assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=1e-4)
    paths = [tf.train.latest_checkpoint(str(tmp_path / d / "checkpoints/last")) for d in "12"]
    names = [name for name, _ in tf.train.list_variables(paths[0]) if name.startswith("model/")]
    assert len(names) > 30
    for name in names:
        values = [tf.train.load_variable(p, name) for p in paths]
        np.testing.assert_allclose(*values, atol=1e-5, err_msg=name)
