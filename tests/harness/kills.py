"""Stand-ins for `mtdnn-train` that are killed, and what must not depend on it."""

import json

import numpy as np
import tensorflow as tf

from harness.runs import numbers

# Stands in for `mtdnn-train`: kills itself with -9 at one call of one function.
KILLER = """
import os, signal, sys
place, call, when = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sys.argv = ["train", *sys.argv[4:]]
import importlib
module_name, _, path = place.partition(":")
owner = importlib.import_module(module_name)
*parents, name = path.split(".")
for parent in parents:
    owner = getattr(owner, parent)
original, calls = getattr(owner, name), 0
def wrapper(*args, **kwargs):
    global calls
    calls += 1
    if calls == call and when == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    result = original(*args, **kwargs)
    if calls == call and when == "after":
        os.kill(os.getpid(), signal.SIGKILL)
    return result
setattr(owner, name, wrapper)
from mtdnn_tf.binaries.train import main
main()
"""


TERMINATOR = KILLER.replace("SIGKILL", "SIGTERM")


def everything(workdir):
    """All that a run leaves and that must not depend on interruptions."""
    path = tf.train.latest_checkpoint(str(workdir / "checkpoints" / "last"))
    variables = {
        f"{folder}/{name}": tf.train.load_variable(checkpoint, name)
        for folder in ("last", "best")
        for checkpoint in [tf.train.latest_checkpoint(str(workdir / "checkpoints" / folder))]
        for name, _ in tf.train.list_variables(checkpoint)
        if name not in ("save_counter/.ATTRIBUTES/VARIABLE_VALUE", "_CHECKPOINTABLE_OBJECT_GRAPH")
    }
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    predictions = {p.name: p.read_text() for p in sorted((workdir / "predictions").iterdir())}
    return path.rsplit("/", 1)[1], variables, [numbers(json.loads(x)) for x in lines], predictions


def assert_equal_runs(one, two):
    (name1, variables1, metrics1, predictions1), (name2, variables2, metrics2, predictions2) = (
        everything(one),
        everything(two),
    )
    assert name1 == name2
    assert metrics1 == metrics2
    assert predictions1 == predictions2
    assert variables1.keys() == variables2.keys()
    for name, value in variables1.items():
        np.testing.assert_array_equal(value, variables2[name], err_msg=name, strict=True)
