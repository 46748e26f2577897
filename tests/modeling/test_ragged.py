"""Few texts are run without empty slots, and answered as in a packed batch."""

import random
import time
from concurrent.futures import ThreadPoolExecutor

import keras
import numpy as np
import pytest
import tensorflow as tf
from harness.runs import peak_of
from harness.tasks import ANSWERS, BAD, GOOD, sentence, write_experiment
from hypothesis import given, settings
from hypothesis import strategies as st

from mtdnn_tf.evaluation.ragged import RaggedModel, RaggedRunner
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.modeling import BertEncoder, build_mtdnn, ragged_inputs
from mtdnn_tf.pretrained import load_config
from mtdnn_tf.runs.ensemble import Member, RaggedEnsemble, build_ensemble
from mtdnn_tf.runs.loading import MTDNN
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer

NAMES = ["mood", "same", "near", "answers"]


@pytest.fixture(scope="module")
def experiment(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ragged")
    path = write_experiment(folder, tasks={"answers": ANSWERS})
    return load_experiment(path, ["tasks.same.head=san"])


@pytest.fixture(scope="module")
def models(experiment):
    """What may be loaded, by name; the weights are random and large, so that answers differ."""
    folder = experiment.encoder.pretrained
    tokenizer = BertTokenizer.from_file(f"{folder}/vocab.txt", max_length=24)

    def model(seed, precision="float32"):
        keras.utils.set_random_seed(seed)
        config = load_config(folder).model_copy(update={"initializer_range": 0.3})
        return build_mtdnn(config, experiment.heads, dtype=precision)

    tasks = {task.name: task for task in experiment.heads}
    members = [Member(model(seed), tasks, f"run {seed}") for seed in (1, 2)]
    ensemble = build_ensemble(members, tasks)
    ragged = RaggedEnsemble(ensemble, members)
    return {
        "one model": MTDNN(members[0].model, experiment, tokenizer),
        "an ensemble": MTDNN(ensemble, experiment, tokenizer, ragged=ragged),
        "bfloat16": MTDNN(model(1, "mixed_bfloat16"), experiment, tokenizer),
    }


def examples(task, count, seed=0):
    """Texts of any length, the empty one among them; two candidates or more of a question."""
    rng = random.Random(seed)

    def text():
        return " ".join(sentence(rng, rng.choice([GOOD, BAD])) for _ in range(rng.randint(0, 3)))

    questions = [text() for _ in range(-(-count // 3))]
    pairs = [(questions[i // 3], text()) for i in range(count)]
    return [pair[:1] if task == "mood" else pair for pair in pairs]


def numbers(predictions):
    return [list(p.probabilities.values()) if p.probabilities else p.score for p in predictions]


def in_packed_batches(model, monkeypatch):
    monkeypatch.setattr(model, "_takes_few", False)


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize(
    ("name", "tolerance"),
    [
        ("one model", 1e-5),
        pytest.param("an ensemble", 1e-5, marks=pytest.mark.long),
        pytest.param("bfloat16", 0.1, marks=pytest.mark.long),
    ],
)
@settings(max_examples=4)
@given(count=st.integers(1, 20), seed=st.integers(0, 1000))
def test_few_texts_are_answered_as_in_a_packed_batch(models, name, tolerance, task, count, seed):
    model, texts = models[name], examples(task, count, seed)
    alone = model.predict(task, texts)
    with pytest.MonkeyPatch.context() as monkeypatch:
        in_packed_batches(model, monkeypatch)
        packed = model.predict(task, texts)
    np.testing.assert_allclose(numbers(alone), numbers(packed), atol=tolerance)


def test_memory_is_linear_in_tokens_whatever_they_are_divided_into(models, experiment):
    """Of every pooling and head: a batch of a server has as many rows as it is sent."""
    config = load_config(experiment.encoder.pretrained)
    model = RaggedModel(build_mtdnn(config, experiment.heads, pooling="mean"))
    heads = [task.name for task in experiment.heads]
    logits = tf.function(lambda features: model.logits(heads, features), reduce_retracing=True)
    examples = 6000
    texts = [np.array([2, 3], np.int32)] * examples
    logits(ragged_inputs(texts[:2]))
    logits(ragged_inputs(texts[:3]))
    assert peak_of(lambda: logits(ragged_inputs(texts))) < examples * (2 * examples)


def test_what_fits_a_packed_batch_makes_none(models, monkeypatch):
    model = models["one model"]
    ran = []
    packed = model.runner.run
    monkeypatch.setattr(model.runner, "run", lambda sources: [ran.append(1), packed(sources)][1])
    assert len(model.predict("near", examples("near", 8))) == 8
    assert not ran
    assert len(model.predict("near", examples("near", 80))) == 80
    assert ran


def test_texts_of_another_length_or_number_are_not_traced_again(models, monkeypatch):
    model = models["one model"]
    model.predict("mood", ["the boat is calm ."])
    traced = []
    call = BertEncoder.call
    monkeypatch.setattr(BertEncoder, "call", lambda *a, **k: [traced.append(1), call(*a, **k)][1])
    for count in (1, 2, 7):
        model.predict("mood", examples("mood", count, seed=count))
    model.predict("near", examples("near", 1))  # Another task shares the encoder's graph.
    assert not traced


def test_threads_make_every_graph_once(models, monkeypatch):
    one, made = models["one model"], []
    for kind, name in ((BertTokenizer, "encode_in_graph"), (RaggedRunner, "_traced")):
        make = getattr(kind, name)

        def slowly(self, what, make=make):
            made.append(what)
            time.sleep(0.2)
            return make(self, what)

        monkeypatch.setattr(kind, name, slowly)
    model, texts = MTDNN(one.model, one.experiment, one.tokenizer), ["the boat is calm ."]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: model.predict("mood", texts), range(4)))
    assert made == [1, "mood"]
    assert answers == [one.predict("mood", texts)] * 4
