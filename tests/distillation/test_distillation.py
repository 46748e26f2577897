"""Ensembles and the distillation model, without files."""

from dataclasses import replace
from functools import cache

import hypothesis
import keras
import numpy as np
import pytest
import tensorflow as tf
from harness.batches import candidate_store
from hypothesis import strategies as st
from scipy import special

from mtdnn_tf.data.batch import BatchShape
from mtdnn_tf.data.token_store import TokenStore
from mtdnn_tf.data.uids import Uids
from mtdnn_tf.distillation.losses import soft_losses
from mtdnn_tf.distillation.student import DistillationModel, StoredLogits
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.averaged_logits import averaged_logits
from mtdnn_tf.evaluation.evaluator import LogitsRunner
from mtdnn_tf.evaluation.losses import example_losses
from mtdnn_tf.evaluation.temperatures import fit_temperature, negative_log_likelihood
from mtdnn_tf.experiment.distillation import DistillationSettings, SoftLossSettings
from mtdnn_tf.experiment.file import build_experiment
from mtdnn_tf.modeling import BertConfig, build_mtdnn
from mtdnn_tf.runs.ensemble import Member, build_ensemble
from mtdnn_tf.tasks.kinds.ranking import candidate_probabilities

TASKS = build_experiment({"tasks": ["cola", "stsb", "mnli", "qnli_ranking"]}, "test").tasks
COLA, STSB, MNLI, RANKING = TASKS.values()
SMALL = BertConfig(vocab_size=30, hidden_size=16, num_layers=2, num_heads=2, intermediate_size=32)
LARGER = BertConfig(vocab_size=30, hidden_size=24, num_layers=3, num_heads=3, intermediate_size=48)


def a_batch(seed=0, rows=4, length=16):
    """Two examples a row; those of the ranking task are a query with two candidates."""
    rng = np.random.default_rng(seed)
    half = length // 2
    task = np.repeat(rng.permutation(4), 2).astype(np.int32)
    group = np.arange(2 * rows, dtype=np.int32)
    label = np.array([rng.integers(2 if t != 2 else 3) for t in task], np.float32)
    for first in np.flatnonzero(task == 3)[::2]:
        group[first + 1] = first
        label[first : first + 2] = [0, 1]
    weight = np.where(group == np.arange(2 * rows), 0.3, 0).astype(np.float32)
    batch = {
        "token_ids": rng.integers(1, 30, (rows, length)),
        "type_ids": rng.integers(0, 2, (rows, length)),
        "position_ids": np.tile(np.arange(half), (rows, 2)),
        "example_ids": np.tile(np.repeat([1, 2], half), (rows, 1)),
        "first_slot": np.arange(2 * rows) * half,
        "task": task,
        "index": np.arange(2 * rows),
        "group": group,
    }
    batch = {name: value.astype(np.int32) for name, value in batch.items()}
    return batch | {"weight": weight, "label": label}


def member(config, seed, tasks=None, **settings):
    tasks = tasks or tuple(TASKS.values())
    keras.utils.set_random_seed(seed)
    model = build_mtdnn(config, tasks, **settings)
    for variable in model.trainable_variables:  # Larger weights: answers that differ.
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.2, seed=seed))
    return Member(model, {task.name: task for task in tasks}, f"run {seed}")


def logits_of(model, batch, **kwargs):
    return {
        name: value.numpy()
        for name, value in model({n: batch[n] for n in model.input}, **kwargs).items()
    }


def test_an_ensemble_answers_with_the_mean_of_its_members_probabilities():
    members = [member(SMALL, 1), member(LARGER, 2), member(SMALL, 3, pooling="mean")]
    batch = a_batch()
    together = logits_of(build_ensemble(members, TASKS), batch)
    alone = [logits_of(one.model, batch) for one in members]
    for name in ("cola", "mnli"):
        mean = np.mean([special.softmax(one[name], axis=1) for one in alone], axis=0)
        np.testing.assert_allclose(special.softmax(together[name], axis=1), mean, atol=1e-6)
    scores = np.mean([one["stsb"] for one in alone], axis=0)
    np.testing.assert_allclose(together["stsb"], scores, atol=1e-6)


@pytest.mark.parametrize("activation", ["none", "sigmoid"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_an_ensemble_gives_a_query_the_mean_of_its_candidates_probabilities(
    activation, temperature
):
    task = RANKING.model_copy(update={"ranking": {"activation": activation, "gamma": 3.0}})
    task = type(task).model_validate(task.model_dump())
    rng = np.random.default_rng(0)
    outputs = [rng.normal(0, 3, (9, 1)).astype(np.float32) for _ in range(3)]
    group = np.array([0, 0, 0, 3, 4, 4, 4, 4, 8], np.int32)

    def chances(logits):
        scores = special.expit(logits[:, 0]) if activation == "sigmoid" else logits[:, 0]
        parts = [special.softmax(3.0 / temperature * scores[group == g]) for g in np.unique(group)]
        return np.concatenate(parts)

    together = averaged_logits(task, outputs, group, temperature).numpy()
    mean = np.mean([chances(one) for one in outputs], axis=0)
    np.testing.assert_allclose(chances(together), mean, atol=1e-5)


def test_evaluation_gives_an_ensemble_whole_queries():
    """Many more than a batch holds, some of more word pieces or candidates than a row."""
    members = [member(SMALL, 1, (RANKING,)), member(LARGER, 2, (RANKING,))]
    sizes = [2, 3, 9, 2, 4, *[2] * 30]
    store = candidate_store(sizes, np.random.default_rng(0), 3, 9)
    store = replace(store, token_ids=store.token_ids % 30)
    source = [(RANKING, store)]
    ensemble = build_ensemble(members, {RANKING.name: RANKING})
    together = LogitsRunner(ensemble, BatchShape(2, 16)).run(source)[0][:, 0]
    alone = [LogitsRunner(one.model, BatchShape(2, 16)).run(source)[0][:, 0] for one in members]
    mean = np.mean([candidate_probabilities(RANKING, one, store.groups) for one in alone], axis=0)
    found = candidate_probabilities(RANKING, together, store.groups)
    np.testing.assert_allclose(found, mean, atol=1e-6)


def test_a_member_without_a_share_in_an_example_does_not_count_there():
    rng = np.random.default_rng(1)
    outputs = [rng.normal(size=(4, 3)).astype(np.float32) for _ in range(2)]
    shares = [np.array([1, 0, 1, 0], np.float32), np.array([0, 1, 1, 1], np.float32)]
    together = special.softmax(averaged_logits(MNLI, outputs, weights=shares).numpy(), axis=1)
    one, two = (special.softmax(output, axis=1) for output in outputs)
    expected = np.stack([one[0], two[1], (one[2] + two[2]) / 2, two[3]])
    np.testing.assert_allclose(together, expected, atol=1e-6)


def test_an_ensemble_is_in_inference_mode_and_has_nothing_to_train():
    ensemble = build_ensemble([member(SMALL, 1), member(SMALL, 2)], TASKS)
    batch = a_batch()
    still, asked_to_train = logits_of(ensemble, batch), logits_of(ensemble, batch, training=True)
    for name in TASKS:
        np.testing.assert_array_equal(still[name], asked_to_train[name])
    assert ensemble.trainable_variables == []


def test_labels_are_matched_by_name():
    turned = MNLI.model_copy(update={"labels": MNLI.labels[::-1]})
    one = member(SMALL, 1, (MNLI,))
    other = Member(one.model, {"mnli": turned}, "turned")
    batch = a_batch()
    logits = logits_of(build_ensemble([one], {"mnli": MNLI}), batch)["mnli"]
    in_turn = logits_of(build_ensemble([other], {"mnli": MNLI}), batch)["mnli"]
    np.testing.assert_allclose(logits, in_turn[:, ::-1], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": ("yes", "no", "maybe")}, "run cannot answer mnli: it lacks the label"),
        ({"labels": (*MNLI.labels, "other")}, "its label 'other' is not one of"),
        ({"kind": "similarity"}, "mnli is not the same task in run: its kind"),
    ],
)
def test_a_teacher_of_another_task_is_refused(change, message):
    other = Member(member(SMALL, 1, (MNLI,)).model, {"mnli": MNLI.model_copy(update=change)}, "run")
    with pytest.raises(UserError, match=message):
        build_ensemble([other], {"mnli": MNLI})


def test_a_task_that_a_teacher_does_not_have_is_refused():
    with pytest.raises(UserError, match="run 1 has no task 'cola'; it has mnli"):
        build_ensemble([member(SMALL, 1, (MNLI,))], TASKS, {"cola": [0]})


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_soft_cross_entropy_and_kl_are_those_of_the_formulas(temperature):
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(0, 2, (5, 3)).astype(np.float32) for _ in range(2))
    p = special.softmax(student / temperature, axis=1)
    q = special.softmax(teacher / temperature, axis=1)
    group = np.arange(5)
    expected = {
        "soft_cross_entropy": -(q * np.log(p)).sum(1) * temperature**2,
        "kl": special.rel_entr(q, p).sum(1) * temperature**2,
        "mse": ((student - teacher) ** 2).mean(1),
    }
    for loss, value in expected.items():
        settings = SoftLossSettings(loss=loss, temperature=temperature)
        found = soft_losses(MNLI, settings, student, teacher, group)
        np.testing.assert_allclose(found, value, rtol=1e-4)


def test_a_query_has_one_soft_loss_over_its_candidates():
    rng = np.random.default_rng(0)
    student, teacher = (rng.normal(0, 2, (5, 1)).astype(np.float32) for _ in range(2))
    group = np.array([0, 0, 0, 3, 3], np.int32)
    found = soft_losses(RANKING, SoftLossSettings(), student, teacher, group).numpy()
    for g in (0, 3):
        p, q = (special.softmax(x[group == g, 0]) for x in (student, teacher))
        np.testing.assert_allclose(found[group == g], -(q * np.log(p)).sum(), rtol=1e-5)
    log_p = RANKING.kind.log_probabilities(RANKING, student, group, 1.0)[:, 0]
    np.testing.assert_allclose(np.exp(log_p)[:3].sum(), 1, rtol=1e-5)


@cache
def untrained_student():
    return member(SMALL, 5).model


@cache
def two_teachers():
    return build_ensemble([member(LARGER, 1), member(SMALL, 2)], TASKS)


def distillation(settings, student=None, teacher=None, **kwargs):
    student, teacher = student or untrained_student(), teacher or two_teachers()
    return DistillationModel(student, teacher, tuple(TASKS.values()), settings, **kwargs)


def losses_of(model, batch, progress=0.0):
    logits, targets = model(batch, training=False), model.targets_of(batch)
    return model.losses_of(batch, logits, targets, tf.constant(progress)).numpy()


def test_a_task_without_a_teacher_has_exactly_its_hard_loss():
    model = distillation(DistillationSettings(teachers={"mnli": ("a", "b")}))
    batch = a_batch()
    hard = example_losses(model.tasks, model(batch), batch).numpy()
    mixed = losses_of(model, batch)
    taught = batch["task"] == 2
    np.testing.assert_array_equal(mixed[~taught], hard[~taught])
    assert (mixed[taught] != hard[taught]).all()


@pytest.mark.parametrize(
    ("settings", "progress", "share"),
    [
        ({}, 0.7, 0.5),
        ({"hard_weight": 0.2}, 0.7, 0.2),
        ({"tasks": {"mnli": {"hard_weight": 0.9}}}, 0.7, 0.9),
        ({"hard_weight": 0.0, "hard_weight_end": 1.0}, 0.0, 0.0),
        ({"hard_weight": 0.0, "hard_weight_end": 1.0}, 0.25, 0.25),
        ({"hard_weight": 0.0, "hard_weight_end": 1.0}, 1.0, 1.0),
    ],
)
def test_the_loss_is_the_weighted_mean_of_hard_and_soft(settings, progress, share):
    teachers = {"mnli": ("a", "b")}
    model = distillation(DistillationSettings.model_validate(settings | {"teachers": teachers}))
    batch = a_batch()
    logits = model(batch)
    hard = example_losses(model.tasks, logits, batch).numpy()
    teacher = logits_of(model.teacher, batch)["mnli"]
    soft = soft_losses(MNLI, SoftLossSettings(), logits["mnli"], teacher, batch["group"]).numpy()
    taught = batch["task"] == 2
    expected = share * hard + (1 - share) * soft
    np.testing.assert_allclose(losses_of(model, batch, progress)[taught], expected[taught], 1e-5)


def test_no_gradient_reaches_a_teacher():
    model = distillation(DistillationSettings(teachers=dict.fromkeys(TASKS, ("a", "b"))))
    batch = a_batch()
    with tf.GradientTape() as tape:
        losses = model.losses_of(batch, model(batch), model.targets_of(batch), tf.zeros([]))
        loss = tf.reduce_sum(losses)
    teacher = [variable.value for variable in model.teacher.variables]
    assert tape.gradient(loss, teacher) == [None] * len(teacher)
    assert {id(v) for v in model.trainable_variables} == {
        id(v) for v in model.student.trainable_variables
    }


def test_stored_logits_give_the_same_losses_as_live_teachers():
    settings = DistillationSettings(teachers=dict.fromkeys(TASKS, ("a", "b")))
    live = distillation(settings)
    batch = a_batch()
    table = logits_of(live.teacher, batch)
    stored = distillation(settings, live.student, StoredLogits(table))
    np.testing.assert_allclose(losses_of(stored, batch), losses_of(live, batch), atol=1e-6)


@pytest.mark.long
def test_fit_teaches_the_student_what_the_ensemble_says():
    settings = DistillationSettings(teachers=dict.fromkeys(TASKS, ("a", "b")), hard_weight=0.0)
    model = distillation(settings, member(SMALL, 5).model, steps=60)
    model.compile(keras.optimizers.Adam(3e-3))
    batch = a_batch()
    before = [variable.numpy() for variable in model.teacher.variables]
    dataset = tf.data.Dataset.from_tensors(batch).repeat(60)
    first = model.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0)
    model.fit(dataset, epochs=1, verbose=0)
    assert model.evaluate(tf.data.Dataset.from_tensors(batch), verbose=0) < first
    teacher, student = logits_of(model.teacher, batch), logits_of(model.student, batch)
    for name, position in (("cola", 0), ("mnli", 2)):
        here = batch["task"] == position
        np.testing.assert_allclose(
            special.softmax(student[name][here], axis=1),
            special.softmax(teacher[name][here], axis=1),
            atol=0.1,
        )
    for old, new in zip(before, model.teacher.variables, strict=True):
        np.testing.assert_array_equal(old, new.numpy())


def labelled_logits(task, examples=200, sharpness=5.0, seed=0):
    """Logits that are right more often than not, and far too sure of it."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(len(task.labels), size=examples)
    noise = rng.normal(size=(examples, len(task.labels)))
    logits = sharpness * (np.eye(len(task.labels))[labels] + noise)
    store = TokenStore(
        token_ids=np.zeros(examples, np.int32),
        type_ids=np.zeros(examples, np.int32),
        offsets=np.arange(examples + 1),
        labels=labels.astype(np.float32),
        uids=Uids.of(list(map(str, range(examples)))),
    )
    return store, logits.astype(np.float32)


def test_annealing_under_fit_needs_to_know_the_end():
    settings = DistillationSettings(teachers={"mnli": ("run",)}, hard_weight_end=1.0)
    model = distillation(settings)
    model.compile("adam")
    with pytest.raises(ValueError, match="hard_weight_end needs steps"):
        model.compute_loss({}, None, {})


def test_a_calibrated_teacher_is_less_sure_where_it_was_too_sure():
    split = labelled_logits(MNLI)
    temperature = fit_temperature(MNLI, [split])
    assert temperature > 3
    assert negative_log_likelihood(MNLI, [split], temperature) < negative_log_likelihood(
        MNLI, [split]
    )


@hypothesis.given(st.integers(0, 10**6), st.floats(0.01, 30))
def test_calibration_never_makes_the_likelihood_worse(seed, sharpness):
    split = labelled_logits(COLA, 20, sharpness, seed)
    temperature = fit_temperature(COLA, [split])
    calibrated = negative_log_likelihood(COLA, [split], temperature)
    assert calibrated <= negative_log_likelihood(COLA, [split])


def test_each_member_has_a_temperature_of_its_own():
    rng = np.random.default_rng(0)
    outputs = [rng.normal(0, 3, (6, 3)).astype(np.float32) for _ in range(2)]
    together = averaged_logits(MNLI, outputs, calibration=[2.0, 0.5]).numpy()
    expected = (
        special.softmax(outputs[0] / 2, axis=1) + special.softmax(outputs[1] * 2, axis=1)
    ) / 2
    np.testing.assert_allclose(special.softmax(together, axis=1), expected, atol=1e-6)
