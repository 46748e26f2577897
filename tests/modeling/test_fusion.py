"""Functions that XLA computes in a graph on CPU: what they give is what they give op by op."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness.batches import TINY, packed, words
from harness.runs import some
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from mtdnn_tf.modeling import BertEncoder, fusion
from mtdnn_tf.modeling.attention import add_bias
from mtdnn_tf.modeling.block import add_bias_and_activate
from mtdnn_tf.modeling.dropout import draw, drop
from mtdnn_tf.modeling.fusion import fused

ROWS = [[30, 30, 30], [30, 32, 2, 30, 9], [], [20, 20, 20, 4, 30]]
ARGUMENTS = (
    np.linspace(-2, 3, 12, dtype=np.float32).reshape(4, 3),
    np.array([0.5, -1.0, 2.0], np.float32),
    np.array([[1], [0], [1], [1]], np.int32),
)


@fused
def scaled(inputs, scale, keep, power):
    return ops.power(inputs * scale, power) * ops.cast(keep, inputs.dtype)


def value_and_gradients(*tensors):
    tensors = [tf.convert_to_tensor(tensor) for tensor in tensors]
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        value = scaled(*tensors, power=3)
        total = tf.reduce_sum(value * value)
    return value, *tape.gradient(total, tensors[:2])


def is_compiled(function, *arguments):
    graph = function.get_concrete_function(*arguments).graph.as_graph_def()
    nodes = [*graph.node, *(node for part in graph.library.function for node in part.node_def)]
    return any(node.attr["_XlaMustCompile"].b for node in nodes)


def test_a_fused_function_and_its_gradients_are_those_of_its_ops():
    in_graph = tf.function(value_and_gradients, autograph=False)
    assert is_compiled(in_graph, *ARGUMENTS)
    for found, expected in zip(in_graph(*ARGUMENTS), value_and_gradients(*ARGUMENTS), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_settings_tell_functions_apart():
    @tf.function(autograph=False)
    def both(*tensors):
        return [scaled(*tensors, power=power) for power in (2, 3)]

    inputs, scale, keep = ARGUMENTS
    for power, found in zip((2, 3), both(*ARGUMENTS), strict=True):
        np.testing.assert_allclose(found, (inputs * scale) ** power * keep, rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"jit_compile": True}, {"input_signature": [tf.TensorSpec([None, 3])]}],
    ids=["under XLA", "shape unknown"],
)
def test_it_runs_as_written_where_fusing_is_not_for_it(options, monkeypatch):
    def refuse(*_):
        pytest.fail("was fused")

    monkeypatch.setattr(fusion, "_compiled", refuse)
    function = tf.function(lambda x: scaled(x, x, x, power=2), autograph=False, **options)
    inputs = ARGUMENTS[0]
    np.testing.assert_allclose(function(inputs), inputs**5, rtol=1e-5)
    np.testing.assert_allclose(scaled(inputs, inputs, inputs, power=2), inputs**5, rtol=1e-5)


def test_a_mask_is_the_same_wherever_it_is_made():
    (seed,) = draw(0.2, keras.random.SeedGenerator(3))
    inputs = tf.ones((9, 12, 32, 32))
    op_by_op = drop(inputs, 0.2, seed)
    for options in ({}, {"jit_compile": True}):
        in_graph = tf.function(lambda: drop(inputs, 0.2, seed), autograph=False, **options)
        np.testing.assert_array_equal(in_graph(), op_by_op)


@settings(max_examples=30)
@given(st.integers(0, 2**31 - 1), st.sampled_from([0.05, 0.1, 0.5]))
def test_masks_are_as_if_drawn(seed, rate):
    """Entries are dropped at the rate, and whatever is dropped beside, above or before them."""
    generator = keras.random.SeedGenerator(seed)
    inputs = tf.ones((300, 384), tf.bfloat16)
    (of_first,), (of_second,) = (draw(rate, generator) for _ in range(2))
    first, second = drop(inputs, rate, of_first), drop(inputs, rate, of_second)
    of_replica = drop(inputs, rate, of_first + tf.constant([1, 0], of_first.dtype))
    assert float(tf.reduce_max(first)) == pytest.approx(1 / (1 - rate), rel=2**-8)
    a, b, other = (tf.cast(m, tf.float32).numpy() == 0 for m in (first, second, of_replica))
    assert abs(a.mean() - rate) < 5.5 * (rate * (1 - rate) / a.size) ** 0.5
    together = {
        "beside": a[:, 1:] & a[:, :-1],
        "above": a[1:] & a[:-1],
        "before": a & b,
        "half a row away": a[:, 192:] & a[:, :192],
        "in another replica": a & other,
        "beside in another replica": a[:, 1:] & other[:, :-1],
    }
    both = rate**2
    for name, where in together.items():
        assert abs(where.mean() - both) < 5.5 * (both / where.size) ** 0.5, name
    for axis in (0, 1):  # Rows and columns vary as they would by chance.
        sums = a.sum(axis)
        variance = a.shape[axis] * rate * (1 - rate)
        ratio = sums.var() / variance
        assert abs(ratio - 1) < 5.5 * (2 / len(sums)) ** 0.5 + 0.05


def test_nothing_is_drawn_where_nothing_is_dropped():
    generator = keras.random.SeedGenerator(3)
    before = generator.state.numpy()
    assert draw(0.0, generator) == ()
    np.testing.assert_array_equal(generator.state, before)
    inputs = tf.ones(3)
    assert drop(inputs, 0.0) is inputs
    rate = 1 - 1e-12  # All levels but one.
    assert not np.any(drop(tf.ones(10_000), rate, *draw(rate, generator)))


def loss_and_gradients(encoder, batch, training=True):
    with tf.GradientTape() as tape:
        out = encoder(batch, training=training)
        loss = tf.reduce_sum(tf.cast(out["examples"], tf.float32) ** 2)
    gradients = tape.gradient(loss, encoder.trainable_variables)
    return loss, [tf.convert_to_tensor(gradient) for gradient in gradients]


def make_encoder(**settings):
    keras.utils.set_random_seed(1)
    encoder = BertEncoder(TINY.model_copy(update=settings), pooling="mean")
    encoder.build()
    return encoder


@pytest.mark.parametrize("activation", some(["gelu", "gelu_new", "relu"], "gelu"))
@pytest.mark.parametrize("rate", some([0.0, 0.1], 0.1))
def test_fused_training_is_training_op_by_op(activation, rate, monkeypatch):
    batch = packed([words(row) for row in ROWS], 128)
    sizes = {"hidden_act": activation, "hidden_dropout": rate, "attention_dropout": rate}
    compiled = step_of(make_encoder(**sizes), batch, training=True)
    assert is_compiled(compiled)
    monkeypatch.setattr(fusion, "_can_be_fused", lambda tensors: False)
    encoder = make_encoder(**sizes)  # Its random state as well.
    by_ops = step_of(encoder, batch, training=True)
    assert not is_compiled(by_ops)
    assert_alike(encoder, compiled(), by_ops())


@pytest.mark.parametrize("activation", some(["gelu", "gelu_new", "relu"], "gelu_new"))
def test_fused_training_without_dropout_is_what_the_layers_compute(activation):
    batch = packed([words(row) for row in ROWS], 128)
    encoder = make_encoder(hidden_act=activation, hidden_dropout=0.0, attention_dropout=0.0)
    fused_step, by_layers = (step_of(encoder, batch, training) for training in (True, False))
    assert (is_compiled(fused_step), is_compiled(by_layers)) == (True, False)
    assert_alike(encoder, fused_step(), by_layers())


def step_of(encoder, batch, training):
    return tf.function(lambda: loss_and_gradients(encoder, batch, training), autograph=False)


def assert_alike(encoder, found, expected):
    (loss, gradients), (expected_loss, expected_gradients) = found, expected
    assert float(loss) == pytest.approx(float(expected_loss), rel=1e-5)
    largest_of_all = max(np.abs(gradient).max() for gradient in expected_gradients)
    variables = encoder.trainable_variables
    for variable, one, other in zip(variables, gradients, expected_gradients, strict=True):
        if "key/bias" in variable.path:  # Its gradient is 0, but for rounding.
            assert max(np.abs(one).max(), np.abs(other).max()) < 1e-6 * largest_of_all
            continue
        largest = np.abs(other).max()
        np.testing.assert_allclose(one, other, atol=1e-5 * largest + 1e-6, err_msg=variable.path)


@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_training_is_fused_and_evaluation_is_not(dtype):
    batch = packed([words(row) for row in ROWS], 128)
    encoder = BertEncoder(TINY, dtype=dtype)
    for training in (True, False):
        encode = tf.function(lambda: encoder(batch, training=training)["examples"])  # noqa: B023
        assert is_compiled(encode) == training


def test_gradients_in_bfloat16_are_those_of_float32():
    """Of a thousand tokens: TensorFlow's own sums over them would be wrong by half."""
    config = TINY.model_copy(update={"hidden_dropout": 0.0, "attention_dropout": 0.0})
    batch = packed([words([32] * 4)] * 8, 128)
    found = []
    for dtype in ("float32", "mixed_bfloat16"):
        keras.utils.set_random_seed(1)
        encoder = BertEncoder(config, pooling="mean", dtype=dtype)
        encoder.build()
        found.append(tf.function(loss_and_gradients, autograph=False)(encoder, batch)[1])
    for variable, exact, close in zip(encoder.trainable_variables, *found, strict=True):
        if "key/bias" not in variable.path:  # It shifts all scores of a query: its gradient is 0.
            error = np.linalg.norm(close - exact) / np.linalg.norm(exact)
            assert error < 0.05, variable.path


ADDITIONS = {
    "add": add_bias,
    "activate": lambda inputs, bias: add_bias_and_activate(inputs, bias, name="relu"),
}


@pytest.mark.parametrize("add", ADDITIONS.values(), ids=ADDITIONS)
def test_the_gradient_of_a_bias_is_exact_in_bfloat16(add):
    """TensorFlow's own (BiasAddGrad) sums in bfloat16: here it would be off by half."""
    upstream = np.random.default_rng(0).uniform(0.5, 1.5, (1000, 8))
    upstream = tf.cast(upstream, tf.bfloat16)
    inputs, bias = tf.ones((1000, 8), tf.bfloat16), tf.ones(8, tf.bfloat16)

    @tf.function(autograph=False)
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(bias)
            result = add(inputs, bias)
        return tape.gradient(result, bias, upstream)

    found, expected = tf.cast(gradient(), tf.float32), np.sum(tf.cast(upstream, tf.float64), axis=0)
    np.testing.assert_allclose(found, expected, rtol=2**-8)  # The rounding of the result.
