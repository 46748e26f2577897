"""The functional multi-task model, on tiny random weights."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from mtdnn_tf.modeling import (
    BertConfig,
    BertEncoder,
    LinearHead,
    build_mtdnn,
    encoder_of,
    heads_of,
    input_shapes,
    padded_inputs,
    ragged_inputs,
)
from mtdnn_tf.tasks.spec import TaskSpec

TINY = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    intermediate_size=32,
    max_position_embeddings=16,
)
TASKS = [
    TaskSpec(
        name="cola",
        kind="single_classification",
        fields=("sentence",),
        labels=("bad", "good"),
        metrics=("matthews",),
        dropout=0.05,
        splits={},
    ),
    TaskSpec(
        name="encoder",  # A task may be called as a layer is.
        kind="pair_classification",
        fields=("a", "b"),
        labels=("x", "y", "z"),
        metrics=("accuracy",),
        splits={},
    ),
    TaskSpec(
        name="token_ids", kind="similarity", fields=("a", "b"), metrics=("pearson",), splits={}
    ),
]
SIZES = {"cola": 2, "encoder": 3, "token_ids": 1}
PADDED = padded_inputs([[2, 7, 3, 0], [2, 8, 9, 3], [2, 3, 0, 0]])
RAGGED = ragged_inputs([[2, 7, 3], [2, 8, 9, 3], [2, 3]])


def assert_same(found, expected, atol=0.0):
    assert set(found) == set(expected)
    for name in expected:
        np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=atol)


def test_the_encoder_is_asked_for_words_only_by_heads_that_read_them():
    with_san = [TASKS[0], TASKS[1].model_copy(update={"head": "san"})]
    for tasks, count in ((TASKS, 1), (with_san, 2)):  # The examples' vectors; those of all tokens.
        assert len(keras.tree.flatten(encoder_of(build_mtdnn(TINY, tasks)).output)) == count


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_named_output_per_task(dtype):
    model = build_mtdnn(TINY, TASKS, dtype=dtype)
    out = model(PADDED)
    assert {name: tuple(logits.shape) for name, logits in out.items()} == {
        name: (3, size) for name, size in SIZES.items()
    }
    assert {logits.dtype for logits in out.values()} == {tf.float32}


@pytest.mark.parametrize("pooling", ["cls_pooler", "cls", "mean"])
def test_a_ragged_model_shares_the_weights(pooling):
    model = build_mtdnn(TINY, TASKS, pooling=pooling)
    ragged = build_mtdnn(
        TINY, TASKS, form="ragged", encoder=encoder_of(model), heads=heads_of(model)
    )
    assert {id(v) for v in ragged.variables} == {id(v) for v in model.variables}
    assert_same(ragged(RAGGED), model(PADDED), 1e-6)
    kernel = heads_of(model)["cola"].logits.kernel
    kernel.assign(kernel + 1.0)
    assert_same(ragged(RAGGED), model(PADDED), 1e-5)


def test_every_weight_is_trained_by_some_task():
    model = build_mtdnn(TINY, TASKS)
    with tf.GradientTape() as tape:
        loss = tf.add_n([tf.reduce_sum(v**2) for v in model(PADDED, training=True).values()])
    gradients = tape.gradient(loss, model.trainable_variables)
    assert not [
        v.path for v, g in zip(model.trainable_variables, gradients, strict=True) if g is None
    ]


def test_runs_with_dynamic_shapes():
    model = build_mtdnn(TINY, TASKS)
    ragged = build_mtdnn(
        TINY, TASKS, form="ragged", encoder=encoder_of(model), heads=heads_of(model)
    )
    for network, form, batches in (
        (model, "packed", (PADDED, padded_inputs([[2, 5, 6, 7, 8, 3]]))),
        (ragged, "ragged", (RAGGED, ragged_inputs([[2, 5, 6, 7, 8, 3]]))),
    ):
        spec = {n: tf.TensorSpec(shape, tf.int32) for n, shape in input_shapes(form).items()}
        run = tf.function(lambda x, network=network: network(x), input_signature=[spec])
        for batch in batches:
            assert_same(run(batch), network(batch), 1e-6)
        assert run.experimental_get_tracing_count() == 1


def test_static_shapes_are_kept():
    model = build_mtdnn(TINY, TASKS, rows=3, length=4, examples=5)
    assert model.input["token_ids"].shape == (3, 4)
    assert model.output["encoder"].shape == (5, 3)


@pytest.mark.parametrize("form", ["packed", "ragged"])
def test_save_and_load(tmp_path, form):
    batch = PADDED if form == "packed" else RAGGED
    model = build_mtdnn(TINY, TASKS, form=form)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert_same(loaded(batch), model(batch))
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    assert encoder_of(loaded).config == TINY


def test_a_second_model_has_the_same_paths():
    paths = [[v.path for v in build_mtdnn(TINY, TASKS).variables] for _ in range(2)]
    assert paths[0] == paths[1]
    assert len(set(paths[0])) == len(paths[0])


def test_dropout_is_per_task_and_only_in_training():
    heads = heads_of(build_mtdnn(TINY, TASKS))
    assert (heads["cola"].rate, heads["encoder"].rate) == (0.05, 0.1)
    head = LinearHead(2, rate=0.5, use_bias=False)
    vectors = np.ones((4, 16), np.float32)
    np.testing.assert_array_equal(head(vectors), head(vectors))
    assert len(head.weights) == 1
    assert np.abs(head(vectors, training=True) - head(vectors)).max() > 0


def test_wrong_arguments_are_refused():
    encoder = BertEncoder(TINY, "cls")
    with pytest.raises(ValueError, match="pooling is cls, not mean"):
        build_mtdnn(TINY, TASKS, pooling="mean", encoder=encoder)
    with pytest.raises(ValueError, match="config"):
        build_mtdnn(TINY.model_copy(update={"num_layers": 2}), TASKS, encoder=encoder)
    with pytest.raises(ValueError, match="differ"):
        build_mtdnn(TINY, [TASKS[0], TASKS[0]])
    with pytest.raises(ValueError, match="form"):
        build_mtdnn(TINY, TASKS, form="flat")
