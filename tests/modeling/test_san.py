"""The SAN head: against its equations written out in NumPy, in every form of batch, and in training."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
import yaml
from harness.runs import run, some
from harness.tasks import write_experiment

import mtdnn_tf
from mtdnn_tf.errors import UserError
from mtdnn_tf.modeling import (
    BertConfig,
    SANHead,
    build_mtdnn,
    encoder_of,
    heads_of,
    padded_inputs,
    ragged_inputs,
)
from mtdnn_tf.modeling.heads.san import steps_that_stay
from mtdnn_tf.tasks import resolve_task
from mtdnn_tf.tasks.spec import TaskSpec

HIDDEN, CLASSES = 6, 3
# Token ids and types of pairs, [CLS] a [SEP] b [SEP].
PAIRS = [
    ([2, 7, 8, 3, 9, 10, 3], [0, 0, 0, 0, 1, 1, 1]),
    ([2, 11, 3, 12, 3], [0, 0, 0, 1, 1]),
    ([2, 13, 14, 15, 3, 16, 17, 18, 3], [0, 0, 0, 0, 0, 1, 1, 1, 1]),
]
EMPTY_ENTRIES = 2
NO_DROPOUT = {"rate": 0.0, "prediction_dropout": 0.0}


def packed(rows, length, pairs=PAIRS, unused=EMPTY_ENTRIES):
    """Packs pairs, given by number row by row; entries that stand for no example come last."""
    names = ("token_ids", "type_ids", "position_ids", "example_ids")
    batch = {name: np.zeros((len(rows), length), np.int32) for name in names}
    first = []
    for r, row in enumerate(rows):
        at = 0
        for number, pair in enumerate(row, 1):
            tokens, types = pairs[pair]
            slots = slice(at, at + len(tokens))
            batch["token_ids"][r, slots], batch["type_ids"][r, slots] = tokens, types
            batch["position_ids"][r, slots] = np.arange(len(tokens))
            batch["example_ids"][r, slots] = number
            first.append(r * length + at)
            at += len(tokens)
    return batch | {"first_slot": np.array(first + [0] * unused, np.int32)}


def padded(pairs=PAIRS):
    length = max(len(tokens) for tokens, _ in pairs) + 2
    tokens, types = (
        [list(pair[i]) + [0] * (length - len(pair[i])) for pair in pairs] for i in (0, 1)
    )
    return padded_inputs(tokens, types)


def ragged(pairs=PAIRS):
    return ragged_inputs([tokens for tokens, _ in pairs], [types for _, types in pairs])


FORMS = {
    "padded": padded,
    "packed": lambda: packed([[0, 2], [1]], 18),
    "packed, first row empty": lambda: packed([[], [0, 1], [2]], 13),
    "ragged": ragged,
}
ORDER = {"packed": [0, 2, 1]}  # Of the pairs in a form's examples, where it is not 0, 1, 2.


def head_of(steps=5, **settings):
    """A head whose weights are large enough for each of them to matter."""
    keras.utils.set_random_seed(3)
    head = SANHead(CLASSES, steps=steps, **{"dtype": "float64", **NO_DROPOUT, **settings})
    head.build((None, HIDDEN))
    rng = np.random.default_rng(4)
    for weight in head.trainable_weights:
        weight.assign(rng.normal(0, 0.6, weight.shape))
    return head


def sequence_of(batch, seed=5):
    """Vectors that depend on a token's id and position alone; empty slots have them as well."""
    table = np.random.default_rng(seed).normal(size=(32, 16, HIDDEN))
    return table[batch["token_ids"], batch["position_ids"]]


def softmax(scores):
    weights = np.exp(scores - scores.max())
    return weights / weights.sum()


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def numpy_gru(x, s, wx, bx, ws, bs):
    (zx, rx, nx), (zs, rs, ns) = (np.split(v, 3) for v in (x @ wx + bx, s @ ws + bs))
    z, new = sigmoid(zx + zs), np.tanh(nx + sigmoid(rx + rs) * ns)
    return z * s + (1 - z) * new


def equations(weights, premise, hypothesis, steps, update):
    """Probabilities of one pair by Eqs 3 and 4 of arXiv 1901.11504, word by word."""
    w1, w2, b2, w3, b3, *gates = weights
    a = softmax(np.array([w1 @ word for word in hypothesis]))
    s = sum(share * word for share, word in zip(a, hypothesis, strict=True))
    answers = []
    for _ in range(steps):
        b = softmax(np.array([(s @ w2 + b2) @ word for word in premise]))
        x = sum(share * word for share, word in zip(b, premise, strict=True))
        answers.append(softmax(np.concatenate([s, x, np.abs(s - x), s * x]) @ w3 + b3))
        if gates:
            s = update(x, s, *gates)
    return np.mean(answers, axis=0)


def expected_of(weights, batch, sequence, steps, numbers, update=numpy_gru):
    """What the equations give for each pair of a batch, found by its token ids."""
    flat, ids = sequence.reshape(-1, HIDDEN), batch["token_ids"].reshape(-1)
    results = []
    for number, start in zip(numbers, batch["first_slot"], strict=False):
        tokens, types = PAIRS[number]
        words = flat[start : start + len(tokens)]
        assert ids[start : start + len(tokens)].tolist() == tokens
        second = np.array(types) == 1
        results.append(equations(weights, words[~second], words[second], steps, update))
    return np.array(results)


@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("form", FORMS)
def test_the_answer_is_that_of_the_equations(form, steps):
    head, batch = head_of(steps), FORMS[form]()
    sequence = sequence_of(batch)
    found = np.exp(head(sequence, batch))
    weights = [w.numpy() for w in head.trainable_weights]
    expected = expected_of(weights, batch, sequence, steps, ORDER.get(form, [0, 1, 2]))
    np.testing.assert_allclose(found[: len(PAIRS)], expected, rtol=1e-10)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-10)


def test_the_mean_of_answers_too_sure_for_float32_is_finite():
    head = head_of(dtype="float32")
    head.logits.kernel.assign(head.logits.kernel * 1e4)
    batch = padded()
    found = head(sequence_of(batch), batch).numpy()
    assert np.exp(found).min() == 0
    assert np.isfinite(found).all()


def keras_gru(x, s, wx, bx, ws, bs):
    cell = keras.layers.GRUCell(HIDDEN, dtype="float64")
    cell.build((None, HIDDEN))
    cell.set_weights([wx, ws, np.stack([bx, bs])])
    return cell(x[None], s[None])[0][0].numpy()


def torch_gru(x, s, wx, bx, ws, bs):
    cell = torch.nn.GRUCell(HIDDEN, HIDDEN, dtype=torch.float64)
    names = ("weight_ih", "bias_ih", "weight_hh", "bias_hh")
    for name, value in zip(names, (wx.T, bx, ws.T, bs), strict=True):
        update, reset, new = np.split(value, 3)
        getattr(cell, name).data = torch.tensor(np.concatenate([reset, update, new]))
    return cell(torch.tensor(x), torch.tensor(s)).detach().numpy()


@pytest.mark.parametrize("update", [keras_gru, torch_gru])
def test_the_gru_is_that_of_other_libraries(update):
    head, batch = head_of(3), padded()
    sequence = sequence_of(batch)
    weights = [w.numpy() for w in head.trainable_weights]
    expected = expected_of(weights, batch, sequence, 3, [0, 1, 2], update)
    np.testing.assert_allclose(np.exp(head(sequence, batch)), expected, rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 5])
def test_gradients_are_those_of_the_equations_by_differences(steps):
    head, batch = head_of(steps), packed([[0, 2], [1]], 18)
    sequence, numbers = sequence_of(batch), [0, 2, 1]
    weights = [w.numpy() for w in head.trainable_weights]
    rng = np.random.default_rng(7)
    pull = rng.normal(size=(3, CLASSES))
    with tf.GradientTape() as tape:
        vectors = tf.Variable(sequence)
        loss = tf.reduce_sum(pull * head(vectors, batch)[:3])
    gradients = [g.numpy() for g in tape.gradient(loss, [*head.trainable_weights, vectors])]

    def loss_at(values):
        probabilities = expected_of(values[:-1], batch, values[-1], steps, numbers)
        return (pull * np.log(probabilities)).sum()

    values = [*weights, sequence]
    for changed, gradient in enumerate(gradients):
        direction = rng.normal(size=gradient.shape)
        ahead, behind = (
            [v + sign * 1e-6 * direction if i == changed else v for i, v in enumerate(values)]
            for sign in (1, -1)
        )
        slope = (loss_at(ahead) - loss_at(behind)) / 2e-6
        assert (gradient * direction).sum() == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_what_is_not_an_examples_own_changes_nothing():
    head, batch = head_of(), packed([[0, 2], [1]], 18)
    sequence = sequence_of(batch)
    before = head(sequence, batch).numpy()
    not_first = (batch["example_ids"] != 1) | (np.arange(2)[:, None] == 1)
    other = np.where(not_first[..., None], 1e3 * sequence_of(batch, seed=8), sequence)
    after = head(other, batch).numpy()
    np.testing.assert_allclose(after[0], before[0], rtol=1e-12)
    assert np.abs(after[1:3] - before[1:3]).min(axis=1).max() > 0.01
    fewer = {**batch, "first_slot": batch["first_slot"][:3]}
    np.testing.assert_allclose(head(sequence, fewer), before[:3], rtol=1e-12)


def test_an_example_without_a_text_has_finite_answer_and_gradients():
    single = [([2, 7, 3], [0, 0, 0])]
    batch = packed([[0], []], 5, single)
    for dropped in (0.0, 0.4):
        head = head_of(rate=dropped, prediction_dropout=dropped)
        with tf.GradientTape() as tape:
            vectors = tf.Variable(sequence_of(batch))
            answers = head(vectors, batch, training=True)
            loss = tf.reduce_sum(answers)
        assert np.isfinite(answers).all()
        assert answers.shape == (1 + EMPTY_ENTRIES, CLASSES)
        for gradient in tape.gradient(loss, [*head.trainable_weights, vectors]):
            assert np.isfinite(gradient).all()


def test_one_step_stays_and_the_others_with_the_rate():
    seed = keras.random.SeedGenerator(9)
    stays = np.array(steps_that_stay(5, 20_000, 0.7, seed))
    assert stays.any(axis=0).all()
    assert not stays.all()
    assert stays.sum(axis=0).mean() == pytest.approx(1 + 4 * 0.3, abs=0.03)
    np.testing.assert_allclose(stays.mean(axis=1), (1 + 4 * 0.3) / 5, atol=0.015)
    parts = stays / stays.sum(axis=0)
    np.testing.assert_allclose(parts.mean(axis=1), 1 / 5, atol=0.01)
    assert np.array(steps_that_stay(1, 100, 0.9, seed)).all()
    assert np.array(steps_that_stay(5, 100, 0.0, seed)).all()


def test_prediction_dropout_takes_the_mean_of_some_steps():
    batch = padded(PAIRS[:1])
    sequence = sequence_of(batch)
    shorter = [np.exp(head_of(k)(sequence, batch))[0] * k for k in (1, 2, 3)]
    answers = np.diff([np.zeros(CLASSES), *shorter], axis=0)  # Of each of three steps.
    subsets = [[k for k in range(3) if bits >> k & 1] for bits in range(1, 8)]
    means = np.array([answers[subset].mean(axis=0) for subset in subsets])
    head = head_of(3, prediction_dropout=0.5)
    crowd = padded(PAIRS[:1] * 4000)
    found = np.exp(head(sequence_of(crowd), crowd, training=True))
    distance = np.abs(found[:, None] - means).max(axis=-1)
    np.testing.assert_allclose(distance.min(axis=1), 0, atol=1e-10)
    assert set(distance.argmin(axis=1)) == set(range(7))
    np.testing.assert_allclose(found.mean(axis=0), shorter[2] / 3, atol=0.01)


@pytest.mark.parametrize("where", ["rate", "prediction_dropout", "state_dropout", "memory_dropout"])
def test_each_dropout_works_in_training_only(where):
    quiet = {"rate": 0.0, "prediction_dropout": 0.0, "state_dropout": 0.0, "memory_dropout": 0.0}
    head, batch = head_of(**quiet | {where: 0.5}), padded()
    sequence = sequence_of(batch)
    calm = head(sequence, batch).numpy()
    np.testing.assert_array_equal(head(sequence, batch), calm)
    np.testing.assert_array_equal(head_of(**quiet)(sequence, batch, training=True), calm)
    draws = [head(sequence, batch, training=True).numpy() for _ in range(2)]
    assert np.abs(draws[0] - draws[1]).max() > 0
    assert np.isfinite(draws).all()


def test_dropout_on_words_is_one_mask_for_all_of_an_examples_words():
    head, batch = head_of(1, memory_dropout=0.5), padded([([2, 7, 3], [1, 1, 1])])
    head.summary.assign(np.zeros(HIDDEN))  # The plain mean of the words.
    head.logits.bias.assign(np.zeros(CLASSES))
    head.logits.kernel.assign(np.eye(4 * HIDDEN, CLASSES))
    sequence = sequence_of(batch)
    mean = sequence[0, :3].mean(axis=0)[:CLASSES]
    seen = set()
    for _ in range(40):
        answer = np.array(head(sequence, batch, training=True))[0]
        masks = [np.array(m) * 2.0 for m in np.ndindex(*[2] * CLASSES)]
        possible = [m * mean - np.log(np.exp(m * mean).sum()) for m in masks]
        distance = np.abs(np.array(possible) - answer).max(axis=1)
        assert distance.min() < 1e-10
        seen.add(int(distance.argmin()))
    assert len(seen) > 3


def test_the_head_learns_what_only_both_texts_together_tell():
    words = (7, 8)
    batch = padded([([2, a, 3, b, 3], [0, 0, 0, 1, 1]) for a in words for b in words])
    labels = tf.constant([0, 1, 1, 0])  # Whether the texts differ.
    sequence = tf.constant(sequence_of(batch), tf.float32)
    keras.utils.set_random_seed(0)
    head = SANHead(2, **NO_DROPOUT, initializer_range=0.3)
    head.build((None, HIDDEN))
    optimizer = keras.optimizers.Adam(0.03)
    optimizer.build(head.trainable_weights)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            logits = head(sequence, batch, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
        optimizer.apply(tape.gradient(losses, head.trainable_weights), head.trainable_weights)
        return tf.reduce_mean(losses)

    losses = [float(step()) for _ in range(100)]
    assert losses[0] > 0.5
    assert losses[-1] < 0.05


def test_rates_not_given_are_the_tasks_dropout():
    head = SANHead(2, 0.3)
    assert (head.rate, head.state_dropout, head.memory_dropout) == (0.3, 0.3, 0.3)
    assert (head.steps, head.prediction_dropout) == (5, 0.1)
    head = SANHead(2, 0.3, state_dropout=0.0, memory_dropout=0.2)
    assert (head.state_dropout, head.memory_dropout) == (0.0, 0.2)


def test_config_round_trip():
    head = SANHead(4, 0.2, steps=3, prediction_dropout=0.3, state_dropout=0.4, use_bias=False)
    again = SANHead.from_config(head.get_config())
    assert again.get_config() == head.get_config()
    again.build((None, HIDDEN))
    assert [w.path.split("/", 1)[1] for w in again.variables] == [
        "summary",
        "seed_generator/seed_generator_state",
        "bilinear/kernel",
        "logits/kernel",
        "input_gates/kernel",
        "state_gates/kernel",
    ]


TINY = BertConfig(
    vocab_size=50,
    hidden_size=16,
    num_layers=1,
    num_heads=2,
    intermediate_size=32,
    max_position_embeddings=32,
    initializer_range=0.3,
)


def pair_task(name, **fields):
    return TaskSpec(
        name=name,
        kind="pair_classification",
        fields=("a", "b"),
        labels=("x", "y", "z"),
        metrics=("accuracy",),
        splits={},
        **fields,
    )


TASKS = [
    pair_task("nli", head="san", dropout=0.2),
    pair_task("plain"),
    pair_task("once", head="san", san={"steps": 1}),
]


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return build_mtdnn(TINY, TASKS)


def test_a_spec_chooses_the_head(model):
    heads = heads_of(model)
    assert [type(heads[t.name]).__name__ for t in TASKS] == ["SANHead", "LinearHead", "SANHead"]
    assert (heads["nli"].rate, heads["nli"].state_dropout, heads["nli"].steps) == (0.2, 0.2, 5)
    assert heads["once"].steps == 1


def test_packed_and_ragged_are_as_alone(model):
    flat = build_mtdnn(TINY, TASKS, form="ragged", encoder=encoder_of(model), heads=heads_of(model))
    together = model(packed([[0, 2], [1]], 18))
    all_ragged = flat(ragged())
    for number, pair in enumerate(PAIRS):
        alone = model(padded([pair]))
        for name, logits in alone.items():
            place = [0, 2, 1][number]
            for found in (
                together[name][place],
                all_ragged[name][number],
                flat(ragged([pair]))[name][0],
            ):
                np.testing.assert_allclose(found, logits[0], atol=1e-5)


def test_every_weight_is_trained(model):
    with tf.GradientTape() as tape:
        outputs = model(padded(), training=True)
        loss = tf.add_n([tf.reduce_sum(v[:, 0]) for v in outputs.values()])
    gradients = tape.gradient(loss, model.trainable_variables)
    pairs = zip(model.trainable_variables, gradients, strict=True)
    assert not [variable.path for variable, gradient in pairs if gradient is None]


@pytest.mark.parametrize("form", ["packed", "ragged"])
def test_save_and_load(tmp_path, form):
    batch = ragged() if form == "ragged" else packed([[0, 2], [1]], 18)
    model = build_mtdnn(TINY, TASKS, form=form)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for name, logits in model(batch).items():
        np.testing.assert_array_equal(loaded(batch)[name], logits)
    assert [v.path for v in loaded.variables] == [v.path for v in model.variables]
    assert len({v.path for v in model.variables}) == len(model.variables)
    again = build_mtdnn(TINY, TASKS, form=form)
    assert [v.path for v in again.variables] == [v.path for v in model.variables]


def test_the_head_is_float32_whatever_the_encoder_is():
    batch = packed([[0, 2], [1]], 18)
    model = build_mtdnn(TINY, TASKS, rows=2, length=18, examples=5, dtype="mixed_bfloat16")
    assert model.output["nli"].shape == (5, 3)
    sequence = encoder_of(model)(batch)["sequence"]
    assert sequence.dtype == tf.bfloat16
    expected = heads_of(model)["nli"](tf.cast(sequence, tf.float32), batch)
    found = model(batch)["nli"]
    assert found.dtype == tf.float32
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.long
def test_xla_compiles_the_training_step():
    batch = packed([[0, 2], [1]], 18)
    sequence = tf.constant(sequence_of(batch), tf.float32)
    quiet, noisy = head_of(2, dtype="float32"), head_of(2, dtype="float32", rate=0.2)
    noisy.prediction_dropout = 0.2

    def step():
        with tf.GradientTape() as tape:
            answers = [head(sequence, batch, training=True) for head in (quiet, noisy)]
            loss = tf.add_n([tf.reduce_sum(answer[:, 0]) for answer in answers])
        variables = [*quiet.trainable_weights, *noisy.trainable_weights]
        return answers, tape.gradient(loss, variables)

    answers, gradients = tf.function(step, jit_compile=True)()
    assert all(np.isfinite(value).all() for value in [*answers, *gradients])
    plain_answers, plain_gradients = step()
    np.testing.assert_allclose(answers[0], plain_answers[0], atol=1e-5)
    for compiled, plain in zip(gradients, plain_gradients[: len(gradients) // 2], strict=False):
        np.testing.assert_allclose(compiled, plain, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "override", "message"),
    [
        ("cola", {"head": "san"}, "head san is for pair_classification tasks, not single_"),
        ("stsb", {"head": "san"}, "head san is for pair_classification tasks, not similarity"),
        ("mnli", {"san": {"steps": 3}}, "the section san goes with head: san, not head: linear"),
        (
            "mnli",
            {"head": "san", "san": {"step": 3}},
            "san.step: unknown key; did you mean 'steps'",
        ),
        (
            "mnli",
            {"head": "san", "san": {"steps": 0}},
            "san.steps: should be greater than or equal",
        ),
        (
            "mnli",
            {"head": "san", "san": {"prediction_dropout": 1}},
            "san.prediction_dropout: should",
        ),
        ("mnli", {"head": "sam"}, "head: no head is called 'sam'; did you mean 'san'"),
        ("ax", {"head": "san"}, "a task with predict_with has no head of its own"),
        ("ax", {"san": {}}, "a task with predict_with has no san of its own"),
    ],
)
def test_a_wrong_setting_is_one_clear_line(name, override, message):
    with pytest.raises(UserError) as caught:
        resolve_task(name, override)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_built_in_task_takes_the_head_and_its_settings():
    task = resolve_task("mnli", {"head": "san", "san": {"steps": 3}})
    assert (task.head, task.san.steps, task.dropout) == ("san", 3, 0.3)
    assert TaskSpec.model_validate(json.loads(task.model_dump_json())) == task


@pytest.mark.long
@pytest.mark.parametrize(
    "tasks", some([["same"], ["mood", "near", "same"]], ["mood", "near", "same"])
)
def test_a_run_with_the_head_trains_loads_and_predicts(tasks, tmp_path):
    path = write_experiment(tmp_path, training={"epochs": 2, "learning_rate": 0.01})
    config = yaml.safe_load(path.read_text())
    config["tasks"] = {name: config["tasks"][name] for name in tasks}
    path.write_text(yaml.safe_dump(config))
    workdir = tmp_path / "run"
    settings = ("--set=tasks.same.head=san", "--set=tasks.same.san.steps=3")
    done = run("train", f"--config={path}", f"--workdir={workdir}", *settings)
    assert done.returncode == 0, done.stderr
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    losses = [r["loss"]["same"] for r in map(json.loads, lines) if r["kind"] == "train"]
    assert len(losses) > 3
    assert np.isfinite(losses).all()
    loaded = mtdnn_tf.load(workdir)
    assert loaded.tasks["same"].san.steps == 3
    texts = [("the boat is calm .", "the boat is sad ."), ("a lamp .", "the road is warm .")]
    together = loaded.predict("same", texts * 20)
    for pair, answer in zip(texts, together, strict=False):
        (alone,) = loaded.predict("same", [pair])
        assert sum(alone.probabilities.values()) == pytest.approx(1)
        assert alone.probabilities["yes"] == pytest.approx(answer.probabilities["yes"], abs=1e-5)
