"""The encoder: forms of input, masking, dropout, config and precision, on tiny random weights."""

import ast
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness.batches import TINY, packed, words
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mtdnn_tf import modeling
from mtdnn_tf.modeling import BertConfig, BertEncoder, bert, padded_inputs, ragged_inputs
from mtdnn_tf.modeling.activations import exact_gelu
from mtdnn_tf.modeling.attention import FirstTokens
from mtdnn_tf.modeling.bert import packed_layout
from mtdnn_tf.modeling.block import TransformerBlock
from mtdnn_tf.modeling.dropout import dropout
from mtdnn_tf.modeling.owners import attend_to_own

IDS = [[2, 7, 8, 9, 3], [2, 10, 3], [2, 11, 12, 13, 14, 15, 3]]


@pytest.fixture(scope="module")
def encoder():
    keras.utils.set_random_seed(1)
    encoder = BertEncoder(TINY)
    encoder.build()
    return encoder


def alone(encoder, ids):
    """The outputs for one example in a batch of its own."""
    return encoder(packed([[ids]], len(ids)))


def test_shapes(encoder):
    out = encoder(padded_inputs([[2, 5, 3, 0], [2, 5, 6, 3], [2, 3, 0, 0]]))
    assert out["sequence"].shape == (3, 4, 16)
    assert out["examples"].shape == (3, 16)
    out = encoder(ragged_inputs(IDS))
    assert out["sequence"].shape == (15, 16)
    assert out["examples"].shape == (3, 16)


def test_variables_read_like_bert(encoder):
    paths = [v.path for v in encoder.variables]
    for path in (
        "encoder/embeddings/word",
        "encoder/layer_1/attention/query/kernel",
        "encoder/layer_1/attention/output/bias",
        "encoder/layer_1/attention_norm/gamma",
        "encoder/layer_1/intermediate/kernel",
        "encoder/layer_1/output/kernel",
        "encoder/layer_1/output_norm/beta",
        "encoder/pooler/kernel",
        "encoder/seed_generator/seed_generator_state",
    ):
        assert path in paths
    assert len(set(paths)) == len(paths)


@settings(max_examples=12, deadline=None)
@given(
    st.lists(
        st.lists(st.lists(st.integers(1, 49), min_size=1, max_size=6), max_size=3),
        min_size=1,
        max_size=3,
    ).filter(any)
)
def test_packed_equals_alone(encoder, rows):
    batch = packed(rows, 20)
    out = encoder(batch)
    assert np.isfinite(out["sequence"]).all()
    for number, ids in enumerate(ids for row in rows for ids in row):
        expected = alone(encoder, ids)
        first = batch["first_slot"][number]
        flat = np.reshape(out["sequence"], (-1, 16))[first : first + len(ids)]
        np.testing.assert_allclose(flat, expected["sequence"][0], atol=1e-5)
        np.testing.assert_allclose(out["examples"][number], expected["examples"][0], atol=1e-5)


ROWS = st.lists(st.lists(st.integers(2, 30), max_size=14), min_size=1, max_size=4)
WHOLE = [[30, 30, 30], [30, 32, 2, 30, 9], [], [20, 20, 20, 4, 30]]  # The first crosses the middle.


@settings(max_examples=12, deadline=None)
@given(ROWS.map(lambda rows: [row for row in rows if sum(row) <= 128]).filter(any))
@example(WHOLE)
def test_rows_in_sections_are_encoded_as_whole_rows_are(encoder, rows):
    batch = packed([words(row) for row in rows], 128)
    real = batch["example_ids"] > 0
    in_sections = encoder(batch)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bert, "runs_op_by_op_on_cpu", lambda: False)
        whole = encoder(batch)
    for name, mask in (("sequence", real), ("examples", slice(None))):
        np.testing.assert_allclose(
            in_sections[name].numpy()[mask], whole[name].numpy()[mask], atol=1e-5
        )


def test_rows_are_whole_where_an_example_is_in_two_sections_with_a_gap_between():
    example_ids = np.ones((2, 128), np.int32)
    example_ids[0, 64] = 0
    example_ids[1, 32:64] = 2
    for order in ([0, 1], [1, 0]):
        grids = packed_layout(example_ids[order]).grids
        assert [int(grid.rows) for grid in grids] == [2, 0]


def test_rows_are_whole_where_their_number_is_unknown(encoder):
    batch = packed([words(row) for row in WHOLE], 128)
    signature = {
        name: tf.TensorSpec([None, *value.shape[1:]], tf.int32) for name, value in batch.items()
    }
    found = tf.function(lambda x: encoder(x)["examples"], input_signature=[signature])(batch)
    np.testing.assert_allclose(found, encoder(batch)["examples"], atol=1e-5)


def test_attention_computes_short_sections_where_no_example_crosses_their_ends():
    layout = packed_layout(packed([words(row) for row in WHOLE], 128)["example_ids"])
    assert [(int(grid.rows), grid.length) for grid in layout.grids] == [(1, 128), (6, 64)]
    ids = packed([words(row) for row in reversed(WHOLE)], 128)["example_ids"]
    assert [int(grid.rows) for grid in packed_layout(ids).grids] == [4, 0]
    assert [grid.length for grid in packed_layout(np.ones((3, 256), np.int32)).grids] == [
        256,
        128,
        64,
    ]


@pytest.mark.long
def test_xla_takes_the_same_step_with_whole_rows(encoder):
    batch = {k: tf.constant(v) for k, v in packed([words(row) for row in WHOLE], 128).items()}
    weights = encoder.trainable_variables

    def loss_and_gradients():
        with tf.GradientTape() as tape:
            out = encoder(batch)["examples"]
            loss = tf.reduce_mean(tf.cast(out, tf.float32) ** 2)
        return loss, [tf.convert_to_tensor(g) for g in tape.gradient(loss, weights)]

    loss, gradients = tf.function(loss_and_gradients)()
    compiled, others = tf.function(loss_and_gradients, jit_compile=True)()
    np.testing.assert_allclose(loss, compiled, rtol=1e-5)
    for gradient, other in zip(gradients, others, strict=True):
        np.testing.assert_allclose(gradient, other, atol=1e-5)


@settings(max_examples=12, deadline=None)
@given(st.lists(st.lists(st.integers(1, 49), min_size=1, max_size=9), min_size=1, max_size=19))
@example([[2, *range(5, 5 + length % 7), 3] for length in range(12)])  # In several grids.
def test_ragged_and_padded_equal_alone(encoder, examples):
    longest = max(map(len, examples))
    types = [np.arange(len(ids)) > len(ids) // 2 for ids in examples]
    ragged = encoder(ragged_inputs(examples, types))["examples"]
    fill = [[0] * (longest - len(ids)) for ids in examples]
    padded = encoder(
        padded_inputs(
            [ids + zeros for ids, zeros in zip(examples, fill, strict=True)],
            [list(t) + zeros for t, zeros in zip(types, fill, strict=True)],
        )
    )["examples"]
    expected = np.concatenate([alone(encoder, ids)["examples"] for ids in examples])
    np.testing.assert_allclose(ragged, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(padded, expected, rtol=1e-5, atol=1e-5)


def test_one_example_does_not_see_another(encoder):
    before = encoder(packed([IDS], 16))["examples"]
    changed = encoder(packed([[IDS[0], [2, 40, 3], IDS[2]]], 16))["examples"]
    np.testing.assert_array_equal(before[0], changed[0])
    np.testing.assert_array_equal(before[2], changed[2])
    assert np.abs(before[1] - changed[1]).max() > 1e-3


def test_an_empty_row_is_finite_and_changes_nothing(encoder):
    batch = packed([IDS, []], 16)
    with tf.GradientTape() as tape:
        out = encoder(batch, training=True)
        loss = tf.reduce_sum(out["examples"])
    assert np.isfinite(out["sequence"]).all()
    gradients = tape.gradient(loss, encoder.trainable_variables)
    assert all(np.isfinite(tf.convert_to_tensor(g)).all() for g in gradients)
    expected = encoder(packed([IDS], 16))["examples"]
    np.testing.assert_allclose(encoder(batch)["examples"], expected, atol=1e-6)


@pytest.mark.parametrize("form", ["packed", "ragged"])
def test_mean_pooling_is_the_mean_over_an_examples_tokens(form):
    encoder = BertEncoder(TINY, "mean")
    out = encoder(
        packed([[[9, 9], IDS[0]], IDS[1:]], 12) if form == "packed" else ragged_inputs(IDS)
    )
    tokens = np.reshape(out["sequence"], (-1, 16))
    slots = [slice(0, 2), slice(2, 7), slice(12, 15), slice(15, 22)]
    if form == "ragged":
        slots = [slice(0, 5), slice(5, 8), slice(8, 15)]
    expected = [tokens[s].mean(0) for s in slots]
    np.testing.assert_allclose(out["examples"], expected, atol=1e-5)


def test_cls_pooling_is_the_first_vector():
    out = BertEncoder(TINY, "cls")(ragged_inputs(IDS))
    np.testing.assert_array_equal(out["examples"], out["sequence"].numpy()[[0, 5, 8]])


@pytest.mark.parametrize("pooling", ["cls_pooler", "cls", "mean"])
@pytest.mark.parametrize("form", ["packed", "empty entries", "ragged"])
def test_examples_are_the_same_without_the_sequence(form, pooling):
    keras.utils.set_random_seed(1)
    encoder = BertEncoder(TINY, pooling=pooling)
    batch = ragged_inputs(IDS) if form == "ragged" else packed([IDS[:2], [IDS[2]]], 10)
    if form == "empty entries":  # As in training: they repeat slot 0, and stand for no example.
        batch["first_slot"] = np.append(batch["first_slot"], [0, 0]).astype(np.int32)
    found = encoder(batch, sequence=False)
    assert set(found) == {"examples"}
    expected = encoder(batch)["examples"]
    np.testing.assert_allclose(found["examples"][:3], expected[:3], atol=1e-5)
    assert np.isfinite(found["examples"]).all()


def gradients_of_examples(encoder, batch, sequence):
    with tf.GradientTape() as tape:
        examples = encoder(batch, training=True, sequence=sequence)["examples"][: len(IDS)]
        weight = tf.reshape(tf.range(tf.size(examples), dtype=tf.float32), tf.shape(examples))
        loss = tf.reduce_sum(tf.cast(examples, tf.float32) * tf.sin(weight))
    return [tf.convert_to_tensor(g) for g in tape.gradient(loss, encoder.trainable_variables)]


@pytest.mark.parametrize("recompute", [False, True])
def test_gradients_are_the_same_without_the_sequence(recompute):
    config = TINY.model_copy(update={"hidden_dropout": 0.0, "attention_dropout": 0.0})
    keras.utils.set_random_seed(1)
    encoder = BertEncoder(config, recompute=recompute)
    batch = packed([IDS[:2], [IDS[2]]], 10)
    batch["first_slot"] = np.append(batch["first_slot"], [0, 0]).astype(np.int32)
    encoder(batch)
    gradients = tf.function(gradients_of_examples, autograph=False)
    found, expected = (gradients(encoder, batch, sequence) for sequence in (False, True))
    for variable, one, other in zip(encoder.trainable_variables, found, expected, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5, err_msg=variable.path)


def test_the_last_block_is_for_first_tokens_where_no_more_is_asked_for(encoder):
    batch = packed([IDS[:2], [IDS[2]]], 10)
    seen = []

    def of_widths(last):
        layer = last.intermediate
        call = layer.call
        layer.call = lambda inputs: seen.append(len(inputs)) or call(inputs)
        return lambda: setattr(layer, "call", call)

    restore = of_widths(encoder.blocks[-1])
    encoder(batch)
    encoder(batch, sequence=False)
    restore()
    assert seen == [20, 3]


@given(
    lengths=st.lists(st.integers(0, 6), min_size=1, max_size=6),
    heads=st.sampled_from([1, 2, 4]),
    seed=st.integers(0, 99),
)
def test_what_an_example_sees_of_its_own_is_softmax_over_its_tokens(lengths, heads, seed):
    draw = np.random.default_rng(seed)
    owner = np.append(np.repeat(np.arange(len(lengths)), lengths), [len(lengths)] * 2)
    order = draw.permutation(len(owner))
    owner = owner[order].astype(np.int32)
    query = draw.normal(size=(len(lengths), 8)).astype(np.float32)
    keys, values = draw.normal(size=(2, len(owner), 8)).astype(np.float32)
    kept = draw.integers(0, 2, (len(owner), heads)).astype(np.float32)
    found = attend_to_own(query, keys, values, owner, heads, drop=lambda weights: weights * kept)
    expected = np.zeros((len(lengths), 8))
    for number in range(len(lengths)):
        own = owner == number
        for head, part in enumerate(np.split(np.arange(8), heads)):
            scores = np.exp(keys[own][:, part] @ query[number, part])
            weights = scores / scores.sum() * kept[own, head]
            expected[number, part] = weights @ values[own][:, part]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_first_tokens_have_dropout_of_their_attention():
    config = TINY.model_copy(update={"hidden_dropout": 0.0, "attention_dropout": 0.5})
    last = TransformerBlock(config, name="last")
    last.build((None, 16))
    tokens = np.random.default_rng(0).normal(size=(6, 16)).astype(np.float32)
    wanted = FirstTokens(np.array([0, 3], np.int32), np.array([0, 0, 0, 1, 1, 1], np.int32))
    one, other = (
        last(tokens, layout=wanted, seed=keras.random.SeedGenerator(seed), training=True)
        for seed in (1, 2)
    )
    assert not np.allclose(one, other)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("pooling", ["cls_pooler", "mean"])
@pytest.mark.parametrize("sequence", [True, False])
def test_half_precision_is_near_float32(policy, pooling, sequence):
    full, half = BertEncoder(TINY, pooling), BertEncoder(TINY, pooling, dtype=policy)
    full.build()
    half.build()
    half.set_weights([w * 0.2 for w in full.get_weights()])
    full.set_weights(half.get_weights())
    batch = packed([IDS, []], 16)
    expected, found = full(batch), half(batch, sequence=sequence)
    assert all(v.dtype == "float32" for v in half.trainable_variables)
    assert str(found["examples"].dtype.name) == policy.removeprefix("mixed_")
    found = tf.cast(found["examples"], "float32")
    np.testing.assert_allclose(found, expected["examples"], atol=0.05)


def test_dropout_is_off_unless_training(encoder):
    batch = packed([IDS], 16)
    np.testing.assert_array_equal(encoder(batch)["examples"], encoder(batch)["examples"])
    first = encoder(batch, training=True)["examples"]
    second = encoder(batch, training=True)["examples"]
    assert np.abs(first - second).max() > 1e-3


def test_dropout_repeats_from_its_state(encoder):
    batch, state = packed([IDS], 16), encoder.seed_generator.state
    before = state.numpy()
    first = encoder(batch, training=True)["examples"]
    state.assign(before)
    np.testing.assert_array_equal(first, encoder(batch, training=True)["examples"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("rate", [0.05, 0.1, 0.5])
def test_dropout_rate_and_scale(dtype, rate):
    out = dropout(tf.ones((501, 399), dtype), rate, keras.random.SeedGenerator(1), True)
    assert out.dtype == dtype
    out = tf.cast(out, "float32").numpy()
    deviation = (rate * (1 - rate) / out.size) ** 0.5
    assert abs((out == 0).mean() - rate) < 4 * deviation
    assert out.max() == pytest.approx(1 / (1 - rate), rel=5e-3)
    halves = out.reshape(-1)[:-1].reshape(-1, 2) == 0  # Two 16-bit draws of one 32-bit number.
    assert abs(halves.all(1).mean() - rate**2) < 5 * (rate**2 / len(halves)) ** 0.5


def test_dropout_gradient_is_its_mask():
    x = tf.ones((7, 9))
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = dropout(x, 0.3, keras.random.SeedGenerator(1), True)
    np.testing.assert_allclose(tape.gradient(y, x), y)


def test_exact_gelu_and_its_gradient():
    x = tf.linspace(-6.0, 6.0, 501)
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(x)
        ours, reference = exact_gelu(x), tf.nn.gelu(x, approximate=False)
    np.testing.assert_allclose(ours, reference, atol=2e-6)
    np.testing.assert_allclose(tape.gradient(ours, x), tape.gradient(reference, x), atol=2e-6)


@pytest.mark.parametrize("activation", ["gelu_new", "gelu_pytorch_tanh", "relu"])
def test_other_activations_run(activation):
    encoder = BertEncoder(TINY.model_copy(update={"hidden_act": activation}))
    assert np.isfinite(encoder(ragged_inputs(IDS), training=True)["examples"]).all()


def test_config_round_trips():
    encoder = BertEncoder(TINY, "mean", dtype="mixed_bfloat16", name="other")
    again = BertEncoder.from_config(encoder.get_config())
    assert (again.config, again.pooling, again.name) == (TINY, "mean", "other")
    assert again.dtype_policy.name == "mixed_bfloat16"
    assert BertConfig.from_hf_dict(TINY.to_hf_dict()) == TINY


@pytest.mark.parametrize(
    "wrong", [{"hidden_size": 30}, {"hidden_act": "swish"}, {"num_layers": 0}, {"layers": 3}]
)
def test_config_refuses(wrong):
    with pytest.raises(ValidationError):
        BertConfig(**TINY.model_dump() | wrong)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="pooling"):
        BertEncoder(TINY, "max")
    with pytest.raises(ValueError, match="at least one token"):
        ragged_inputs([[2, 3], []])
    with pytest.raises(ValueError, match="type ids"):
        ragged_inputs([[2, 3]], [[0]])


def test_layers_do_not_import_tensorflow():
    """But for what lets XLA compile a function where TensorFlow runs on CPU."""
    files = set(Path(modeling.__file__).parent.rglob("*.py"))
    of_backend = {path for path in files if path.name in ("fusion.py", "placement.py")}
    assert len(of_backend) == 2
    for path in files - of_backend:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not [n for n in names if n.split(".")[0] in ("tensorflow", "tf_keras", "orbit")]
