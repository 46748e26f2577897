"""Real weights: our encoder agrees with transformers' BERT and with Model Garden's."""

import numpy as np
import pytest
import tensorflow as tf
import torch
import transformers
from official.nlp.modeling import networks

from mtdnn_tf.modeling import (
    BertEncoder,
    build_mtdnn,
    encoder_of,
    heads_of,
    padded_inputs,
    ragged_inputs,
)
from mtdnn_tf.pretrained import load_config, load_encoder_weights
from mtdnn_tf.tasks.spec import TaskSpec

TOLERANCE = 2e-4  # Largest difference of a hidden value in float32.
SENTENCES = [
    ("The ferry leaves at a quarter past nine.",),
    ("Nobody had watered the tomatoes, and it showed.",),
    ("Why?",),
    ("In 1987 the bridge carried 41,300 cars a day; today it carries none.",),
    ("Zoë's naïve café-owner friend — a Frenchman — paid €12.50!",),
    ("A man is tuning a piano.", "Someone repairs a musical instrument."),
    ("The committee rejected the plan.", "The plan was approved without a vote."),
    ("Which river flows through Kraków?", "The Vistula flows through Kraków and Warsaw."),
    ("It rained.", "Because the gutters were full of leaves, the cellar flooded within an hour."),
]


@pytest.fixture(scope="module")
def encoder(minilm_dir):
    encoder = BertEncoder(load_config(minilm_dir))
    report = load_encoder_weights(encoder, minilm_dir)
    assert not report.missing
    assert not report.unexpected
    return encoder


@pytest.fixture(scope="module")
def encoded(minilm_dir):
    """`(token ids, type ids)` of each sentence or pair, without padding."""
    tokenizer = transformers.BertTokenizerFast(
        vocab=str(minilm_dir / "vocab.txt"), do_lower_case=True
    )
    batch = [tokenizer(*texts) for texts in SENTENCES]
    assert batch[2]["input_ids"] == [101, 2339, 1029, 102]
    return [(e["input_ids"], e["token_type_ids"]) for e in batch]


def to_padded(encoded):
    """Token ids, type ids and mask, each `[examples, longest]`."""
    length = max(len(ids) for ids, _ in encoded)
    arrays = np.zeros((3, len(encoded), length), np.int32)
    for row, (ids, types) in enumerate(encoded):
        arrays[:, row, : len(ids)] = ids, types, np.ones(len(ids))
    return arrays


def to_packed(encoded, length=48):
    """Fills rows first come, first served."""
    rows, used = [[]], 0
    for example in encoded:
        if used + len(example[0]) > length:
            rows, used = [*rows, []], 0
        rows[-1].append(example)
        used += len(example[0])
    names = ("token_ids", "type_ids", "position_ids", "example_ids")
    batch = {name: np.zeros((len(rows), length), np.int32) for name in names}
    first = []
    for r, row in enumerate(rows):
        at = 0
        for number, (ids, types) in enumerate(row, 1):
            values = (ids, types, np.arange(len(ids)), number)
            for name, value in zip(names, values, strict=True):
                batch[name][r, at : at + len(ids)] = value
            first.append(r * length + at)
            at += len(ids)
    return batch | {"first_slot": np.array(first, np.int32)}


def tokens_of(batch, out, encoded):
    """The hidden states of all real tokens, example after example, and the pooled vectors."""
    flat = np.reshape(out["sequence"], (-1, out["sequence"].shape[-1]))
    lengths = [len(ids) for ids, _ in encoded]
    parts = [flat[f : f + n] for f, n in zip(batch["first_slot"], lengths, strict=True)]
    return np.concatenate(parts), np.asarray(out["examples"])


def from_transformers(minilm_dir, ids, types, mask):
    model = transformers.BertModel.from_pretrained(minilm_dir).eval()
    inputs = [torch.tensor(a, dtype=torch.long) for a in (ids, types, mask)]
    with torch.no_grad():
        out = model(input_ids=inputs[0], token_type_ids=inputs[1], attention_mask=inputs[2])
    return out.last_hidden_state.numpy(), out.pooler_output.numpy()


def from_model_garden(ours, ids, types, mask):
    config = ours.config
    theirs = networks.BertEncoderV2(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        max_sequence_length=config.max_position_embeddings,
        type_vocab_size=config.type_vocab_size,
        inner_dim=config.intermediate_size,
        inner_activation=lambda x: tf.nn.gelu(x, approximate=False),
    )
    inputs = {"input_word_ids": ids, "input_mask": mask, "input_type_ids": types}
    inputs = {name: tf.constant(value) for name, value in inputs.items()}
    theirs(inputs)
    values = {v.path.removeprefix("encoder/"): v.numpy() for v in ours.weights}

    def copy(layer, *names):
        """Copies values into a layer whose weights come in the order of `names`."""
        shapes = [w.shape for w in layer.get_weights()]
        pairs = zip(names, shapes, strict=True)
        layer.set_weights([values[name].reshape(shape) for name, shape in pairs])

    copy(theirs._embedding_layer, "embeddings/word")
    copy(theirs._position_embedding_layer, "embeddings/position")
    copy(theirs._type_embedding_layer, "embeddings/type")
    copy(theirs._embedding_norm_layer, "embeddings/norm/gamma", "embeddings/norm/beta")
    copy(theirs._pooler_layer, "pooler/kernel", "pooler/bias")
    for number, block in enumerate(theirs._transformer_layers):
        at = f"layer_{number}/"
        attention = block._attention_layer
        for layer, name, leaves in (
            (attention._query_dense, "attention/query", ("kernel", "bias")),
            (attention._key_dense, "attention/key", ("kernel", "bias")),
            (attention._value_dense, "attention/value", ("kernel", "bias")),
            (attention._output_dense, "attention/output", ("kernel", "bias")),
            (block._attention_layer_norm, "attention_norm", ("gamma", "beta")),
            (block._intermediate_dense, "intermediate", ("kernel", "bias")),
            (block._output_dense, "output", ("kernel", "bias")),
            (block._output_layer_norm, "output_norm", ("gamma", "beta")),
        ):
            copy(layer, *(f"{at}{name}/{leaf}" for leaf in leaves))
    out = theirs(inputs)
    return out["sequence_output"].numpy(), out["pooled_output"].numpy()


@pytest.fixture(scope="module", params=["transformers", "model_garden"])
def reference(request, minilm_dir, encoder, encoded):
    """Hidden states of all real tokens and pooled vectors, by another implementation."""
    ids, types, mask = to_padded(encoded)
    if request.param == "transformers":
        hidden, pooled = from_transformers(minilm_dir, ids, types, mask)
    else:
        hidden, pooled = from_model_garden(encoder, ids, types, mask)
    return hidden[mask == 1], pooled


def assert_agrees(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=TOLERANCE)


def test_padded_agrees(encoder, encoded, reference):
    ids, types, mask = to_padded(encoded)
    batch = padded_inputs(ids, types, mask=mask)
    assert_agrees(tokens_of(batch, encoder(batch), encoded), reference)


def test_packed_agrees(encoder, encoded, reference):
    batch = to_packed(encoded)
    assert len(batch["token_ids"]) < len(encoded) / 2
    assert_agrees(tokens_of(batch, encoder(batch), encoded), reference)


def test_ragged_agrees(encoder, encoded, reference):
    batch = ragged_inputs(*zip(*encoded, strict=True))
    assert_agrees(tokens_of(batch, encoder(batch), encoded), reference)


def test_alone_agrees(encoder, encoded, reference):
    parts = []
    for ids, types in encoded:
        batch = padded_inputs([ids], [types])
        parts.append(tokens_of(batch, encoder(batch), [(ids, types)]))
    assert_agrees([np.concatenate(part) for part in zip(*parts, strict=True)], reference)


def test_packed_logits_equal_those_alone(encoder, encoded):
    tasks = [
        TaskSpec(
            name="nli",
            kind="pair_classification",
            fields=("premise", "hypothesis"),
            labels=("a", "b", "c"),
            metrics=("accuracy",),
            splits={},
        ),
        TaskSpec(name="sts", kind="similarity", fields=("a", "b"), metrics=("pearson",), splits={}),
    ]
    model = build_mtdnn(encoder.config, tasks, encoder=encoder)
    ragged = build_mtdnn(
        encoder.config, tasks, form="ragged", encoder=encoder_of(model), heads=heads_of(model)
    )
    together = model(to_packed(encoded))
    for number, (ids, types) in enumerate(encoded):
        for alone in (model(padded_inputs([ids], [types])), ragged(ragged_inputs([ids], [types]))):
            for name, logits in alone.items():
                np.testing.assert_allclose(together[name][number], logits[0], rtol=0, atol=1e-5)
