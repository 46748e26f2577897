"""Less memory for the same update: pieces, recomputation, 16-bit precision; and XLA."""

import json

import numpy as np
import pytest
import tensorflow as tf
from harness.runs import error_line, run, some
from harness.tasks import write_experiment

from mtdnn_tf.modeling import BertConfig, BertEncoder, padded_inputs

NO_DROPOUT = {
    "encoder": {"hidden_dropout": 0.0, "attention_dropout": 0.0},
    "batch": {"rows": 4, "length": 128},  # Which attention divides into sections.
    "training": {"epochs": 3, "clip_norm": 0.3, "learning_rate": 0.001},
}
OFF = [f"tasks.{name}.dropout=0" for name in ("mood", "same", "near")]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    return write_experiment(tmp_path_factory.mktemp("memory"), **NO_DROPOUT)


@pytest.fixture(scope="module")
def plain(experiment, tmp_path_factory):
    return train(experiment, tmp_path_factory.mktemp("plain") / "run")


def train(experiment, workdir, *settings, **kwargs):
    done = run(
        "train",
        f"--config={experiment}",
        f"--workdir={workdir}",
        *(f"--set={setting}" for setting in (*OFF, *settings)),
        **kwargs,
    )
    assert done.returncode == 0, done.stderr
    return workdir


def records(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(workdir):
    path = tf.train.latest_checkpoint(str(workdir / "checkpoints" / "last"))
    names = [name for name, _ in tf.train.list_variables(path) if name.startswith("model/")]
    return {name: tf.train.load_variable(path, name) for name in names}


def assert_same_run(one, two, atol):
    pairs = list(zip(records(one), records(two), strict=True))
    assert len(pairs) > 5
    for a, b in pairs:
        if a["kind"] == "train":
            assert a["examples"] == b["examples"]
            assert a["loss"] == pytest.approx(b["loss"], rel=20 * atol)
            assert a["gradient_norm"] == pytest.approx(b["gradient_norm"], rel=20 * atol)
    first, second = weights(one), weights(two)
    assert first.keys() == second.keys()
    for name, value in first.items():
        if "seed_generator" not in name:
            np.testing.assert_allclose(value, second[name], atol=atol, err_msg=name)


@pytest.mark.parametrize("pieces", some([2, 4], 4))
def test_a_batch_in_pieces_makes_the_update_of_the_whole_batch(pieces, experiment, plain, tmp_path):
    accumulated = train(experiment, tmp_path / "run", f"batch.pieces={pieces}")
    assert_same_run(plain, accumulated, atol=1e-5)


def test_rows_that_cannot_be_divided_into_pieces_are_told(experiment, tmp_path):
    done = run(
        "train", f"--config={experiment}", f"--workdir={tmp_path / 'run'}", "--set=batch.pieces=3"
    )
    assert done.returncode == 1
    assert error_line(done) == (
        "error: batch.rows 4 cannot be divided among 1 replicas in 3 pieces each"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.long
def test_recomputed_activations_give_the_same_run(experiment, plain, tmp_path):
    assert_same_run(
        plain, train(experiment, tmp_path / "run", "training.recompute=true"), atol=1e-6
    )


@pytest.mark.long
def test_xla_compiles_the_step_with_everything_on(experiment, plain, tmp_path):
    compiled = train(
        experiment,
        tmp_path / "run",
        "training.xla=on",
        "batch.pieces=2",
        "training.recompute=true",
        "training.deterministic=false",
        env={"XLA_FLAGS": f"--xla_dump_to={tmp_path / 'dump'}"},
    )
    assert list((tmp_path / "dump").glob("*_update*")), "XLA was not asked"
    assert_same_run(plain, compiled, atol=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("policy", some(["float32", "mixed_bfloat16"], "float32"))
def test_recomputation_meets_the_same_dropout(policy):
    config = BertConfig(
        vocab_size=50, hidden_size=32, num_layers=3, num_heads=2, intermediate_size=64,
        hidden_dropout=0.3, attention_dropout=0.2,
    )  # fmt: skip
    ids = np.random.default_rng(0).integers(1, 50, (4, 128))
    ids[2:, 60:] = 0  # Two rows are in their first section.
    inputs = padded_inputs(ids, mask=ids > 0)
    found = []
    for recompute in (False, True):
        tf.keras.utils.set_random_seed(7)
        encoder = BertEncoder(config, recompute=recompute, dtype=policy)
        encoder.build()
        step = tf.function(gradients_of)
        found.append([value.numpy() for value in step(encoder, inputs)])
        graph = step.get_concrete_function(encoder, inputs).graph.as_graph_def()
        nodes = [*graph.node, *(node for f in graph.library.function for node in f.node_def)]
        # Of each block's two sections; the gradient needs no other.
        assert sum(node.op == "Softmax" for node in nodes) == (12 if recompute else 6)
    for kept, recomputed in zip(*found, strict=True):
        np.testing.assert_allclose(kept, recomputed, atol=1e-6, rtol=1e-5)
    assert all(np.abs(value).max() > 0 for value in found[0][:5])


def gradients_of(encoder, inputs):
    with tf.GradientTape() as tape:
        vectors = tf.cast(encoder(inputs, training=True)["examples"], tf.float32)
        loss = tf.reduce_sum(vectors[:, ::3] ** 2)
    gradients = tape.gradient(loss, encoder.trainable_variables)
    return [loss, *(tf.convert_to_tensor(g) for g in gradients)]


@pytest.mark.long
@pytest.mark.parametrize("precision", ["mixed_bfloat16", "mixed_float16"])
def test_sixteen_bits_learn_what_float32_learns(precision, experiment, plain, tmp_path):
    half = train(experiment, tmp_path / "run", f"training.precision={precision}", "batch.pieces=2")
    variables = weights(half)
    assert {str(v.dtype) for n, v in variables.items() if "seed" not in n} == {"float32"}
    last = {name: records(w)[-2]["loss"] for name, w in (("half", half), ("full", plain))}
    for task, loss in last["full"].items():
        assert last["half"][task] == pytest.approx(loss, rel=0.1, abs=0.05)
    if precision == "mixed_float16":
        assert sum(r["skipped_steps"] for r in records(half) if r["kind"] == "train") <= 1
    assert all(np.isfinite(v).all() for v in variables.values())


@pytest.mark.long
def test_an_overflow_skips_the_step_and_halves_the_scale(experiment, tmp_path):
    """The first scale, 2^15, times a loss weight of 10^5 is beyond float16."""
    done = train(
        experiment,
        tmp_path / "run",
        "training.precision=mixed_float16",
        "tasks.near.loss_weight=100000",
        "training.steps_per_loop=3",
    )
    logged = [record for record in records(done) if record["kind"] == "train"]
    assert logged[0]["skipped_steps"] > 0
    assert logged[0]["loss_scale"] == 2.0 ** (15 - logged[0]["skipped_steps"])
    assert logged[-1]["skipped_steps"] == 0
    assert all(np.isfinite(v).all() for v in weights(done).values())
