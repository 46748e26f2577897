"""Long texts read as several windows, from the tokenizer to the exported model."""

import random
from dataclasses import replace
from itertools import islice, pairwise

import numpy as np
import pytest
import tensorflow as tf
import yaml
from harness.batches import epochs_of, members
from harness.runs import run
from harness.tasks import BAD, GOOD, NOUNS, VOCAB, add_answers, write_experiment
from hypothesis import given, settings
from hypothesis import strategies as st

import mtdnn_tf
from mtdnn_tf.data.plan import TrainingPlan
from mtdnn_tf.data.sources import Rows
from mtdnn_tf.data.store import open_store
from mtdnn_tf.data.tokenizing import tokenize_rows
from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.modeling import apply_head, encoder_of, heads_of, ragged_inputs
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.ensemble import Member, RaggedEnsemble, build_ensemble
from mtdnn_tf.runs.loading import MTDNN
from mtdnn_tf.serving.export.signatures import ServedModel
from mtdnn_tf.tokenizers.wordpiece import BertTokenizer
from mtdnn_tf.training.loop import train

ONE = BertTokenizer(VOCAB, max_length=12)
SEVERAL = BertTokenizer(VOCAB, max_length=12, windows=3)
TEXT = st.lists(st.sampled_from(NOUNS), max_size=30)


# --- windows of a text ---


def windows_of(*texts, tokenizer=SEVERAL):
    """The windows of an example, each a list of one or two texts."""
    encoded = tokenizer.encode(*([" ".join(text)] for text in texts))
    found = []
    for ids in encoded.token_ids.to_list():
        words = [VOCAB[i] for i in ids]
        assert (words[0], words[-1]) == ("[CLS]", "[SEP]")
        assert len(words) <= tokenizer.max_length
        ends = [n for n, word in enumerate(words) if word == "[SEP]"]
        found.append([words[a + 1 : b] for a, b in pairwise([0, *ends])])
    assert encoded.windows.numpy().tolist() == [len(found)]
    return found, bool(encoded.is_cut[0])


@given(TEXT)
def test_windows_go_over_a_text_and_overlap_by_a_quarter(text):
    found, is_cut = windows_of(text)
    assert is_cut == (len(text) > 10 + 2 * 8)
    if len(text) <= 10:
        assert found == [[text]]
        return
    assert all(len(window) == 10 for (window,) in found)
    kept, stride = text[:26], (min(len(text), 26) - 10) / (len(found) - 1)
    assert stride <= 8
    assert (len(found) == 3) == (len(kept) > 18)
    for number, (window,) in enumerate(found):
        first = int(number * (len(kept) - 10) // (len(found) - 1))
        assert window == kept[first : first + 10]


@given(TEXT, TEXT)
def test_windows_of_a_pair_go_over_the_longer_text_with_the_same_of_the_other(a, b):
    found, _ = windows_of(a, b)
    longer = 0 if len(a) > len(b) else 1
    other = (a, b)[1 - longer]
    if len(a) + len(b) <= 9:
        assert found == [[a, b]]
    elif len(other) > 7:  # It would leave less than a quarter of the nine.
        ((cut, _),) = [w if longer else w[::-1] for w in windows_of(a, b, tokenizer=ONE)[0]]
        other = cut
    assert all(window[1 - longer] == other for window in found)
    if len(a) + len(b) > 9:
        assert len(found) > 1
        assert all(len(window[0]) + len(window[1]) == 9 for window in found)


@pytest.mark.parametrize("max_length", [5, 6, 7])
def test_windows_of_few_pieces_have_some_of_each_text(max_length):
    tokenizer = BertTokenizer(VOCAB, max_length=max_length, windows=3)
    for a, b in ((2, 5), (3, 5), (5, 2), (4, 4)):
        found, _ = windows_of(NOUNS[:a], NOUNS[:b], tokenizer=tokenizer)
        assert all(text for window in found for text in window)


def test_head_tail_windows_are_those_of_what_it_keeps():
    long = [NOUNS[n % 10] for n in range(40)]
    both_ends = BertTokenizer(VOCAB, max_length=12, windows=3, truncation="head_tail")
    kept = [*long[:6], *long[-20:]]  # 10 + 2 * 8.
    assert windows_of(long, tokenizer=both_ends) == (windows_of(kept)[0], True)
    kept = [*long[:5], *long[-15:]]  # 8 + 2 * 6 beside a word.
    assert windows_of(GOOD[:1], long, tokenizer=both_ends) == (windows_of(GOOD[:1], kept)[0], True)


def test_mixed_rows_have_the_windows_they_have_alone():
    texts = [[" ".join(NOUNS * n)] for n in (3, 1, 2)]
    for is_pair in ([True] * 3, [False] * 3, [True, False, True]):
        a = [text for (text,) in texts]
        mixed = SEVERAL.encode_mixed(a, ["the", "is a", a[0]], is_pair)
        alone = [
            SEVERAL.encode([x], [y]) if pair else SEVERAL.encode([x])
            for x, y, pair in zip(a, ["the", "is a", a[0]], is_pair, strict=True)
        ]
        assert mixed.token_ids.to_list() == [ids for e in alone for ids in e.token_ids.to_list()]
        assert mixed.type_ids.to_list() == [ids for e in alone for ids in e.type_ids.to_list()]
        for name in ("windows", "whole_lengths", "is_cut"):
            assert getattr(mixed, name).numpy().tolist() == [
                getattr(one, name).numpy()[0] for one in alone
            ]


# --- stores and batches ---


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = write_experiment(
        tmp_path_factory.mktemp("windows"),
        data={"max_length": 12, "windows": 3},
        batch={"rows": 4, "length": 96},
        training={"epochs": 1, "deterministic": False},
    )
    add_answers(path)
    return path


@pytest.fixture(scope="module")
def stores(config):
    experiment = load_experiment(config, [])
    tokenizer = BertTokenizer(VOCAB, **experiment.data.cutting)
    folder = config.parent
    return experiment, {
        task.name: open_store(task, "train", folder / "data", tokenizer, folder / "c")
        for task in experiment.heads
    }


def test_a_store_on_disk_holds_what_one_in_memory_does(stores, config):
    from mtdnn_tf.data.sources import read_split

    experiment, on_disk = stores
    tokenizer = BertTokenizer(VOCAB, **experiment.data.cutting)
    for name in ("same", "answers"):
        task, store = experiment.tasks[name], on_disk[name]
        assert len(store) < len(store.lengths)
        rows = read_split(task, "train", config.parent / "data")
        other = tokenize_rows(task, rows, tokenizer)
        for array in ("token_ids", "type_ids", "offsets", "windows", "uids", "is_cut"):
            np.testing.assert_array_equal(getattr(store, array), getattr(other, array))


def test_a_part_of_a_store_has_the_windows_of_its_examples(stores):
    store = stores[1]["same"]
    part = store.subset(np.array([1, 4, 5]))
    for here, there in enumerate([1, 4, 5]):
        texts = [
            [of.token_ids[of.offsets[w] : of.offsets[w + 1]].tolist()
             for w in range(*of.window_offsets[number : number + 2])]
            for of, number in ((part, here), (store, there))
        ]  # fmt: skip
        assert texts[0] == texts[1]
    both = part.joined(store.subset(np.array([2])))
    assert both.windows.tolist() == [*part.windows, store.windows[2]]
    assert len(both.offsets) == both.windows.sum() + 1


@settings(max_examples=5)
@given(st.integers(0, 99), st.sampled_from([1, 2]))
def test_the_windows_of_an_example_share_a_batch_and_it_counts_once(stores, seed, replicas):
    experiment, of_tasks = stores
    training = experiment.training.model_copy(update={"seed": seed})
    plan = TrainingPlan(experiment.model_copy(update={"training": training}), of_tasks, replicas)
    (epoch,) = epochs_of(plan)
    everything = [(t, i) for t, store in enumerate(of_tasks.values()) for i in range(len(store))]
    assert sorted(epoch) == everything
    for batch in plan.batches(0):
        flat = batch["token_ids"].ravel()
        first = 0
        for (task, index), count in zip(members(batch), batch["windows"], strict=False):
            store = list(of_tasks.values())[task]
            assert count == store.windows[index]
            for w, slot in enumerate(batch["first_slot"][first : first + count]):
                start, end = store.offsets[store.window_offsets[index] + w :][:2]
                tokens = flat[slot : slot + end - start]
                assert tokens.tolist() == store.token_ids[start:end].tolist()
            first += count
        assert batch["windows"][len(members(batch)) :].sum() == 0
    first_step = list(islice(plan.batches(0), replicas))
    for task in range(len(of_tasks)):
        weights = [b["weight"][(b["task"] == task) & (b["index"] >= 0)] for b in first_step]
        present = any(len(of_batch) for of_batch in weights)
        assert sum(of_batch.sum() for of_batch in weights) == pytest.approx(float(present))


def test_with_one_window_batches_are_as_they_were(stores):
    """What has no windows is packed as what has windows of which each is all."""
    experiment, of_tasks = stores
    short = {
        name: replace(store.subset(np.arange(5)), windows=None)
        for name, store in of_tasks.items()
        if (store.windows[:5] == 1).all()
    }
    assert short
    experiment = experiment.model_copy(
        update={"tasks": {name: experiment.tasks[name] for name in short}}
    )
    alone = experiment.model_copy(
        update={"data": experiment.data.model_copy(update={"windows": 1})}
    )
    counted = {name: replace(s, windows=np.ones(len(s), np.int64)) for name, s in short.items()}
    plain = list(TrainingPlan(alone, short).batches(0))
    for one, several in zip(plain, TrainingPlan(experiment, counted).batches(0), strict=True):
        assert set(several) - set(one) == {"windows"}
        for name, array in one.items():
            np.testing.assert_array_equal(array, several[name])


# --- the whole way ---


@pytest.fixture(scope="module")
def loaded(config):
    workdir = config.parent / "run"
    train(load_experiment(config, []), workdir)
    return mtdnn_tf.load(workdir)


LONG_TEXTS = [" ".join([GOOD[n], *NOUNS[: 4 * n], BAD[n]]) for n in (0, 1, 2, 5)]
PAIRS = [(text, LONG_TEXTS[-1 - n]) for n, text in enumerate(LONG_TEXTS)]


def logits_of(loaded, name, texts):
    task = loaded.tasks[name]
    texts = [text if isinstance(text, tuple) else (text,) for text in texts]
    columns = dict(zip(task.fields, map(list, zip(*texts, strict=True)), strict=True))
    groups = np.arange(len(texts)) if task.kind.by_query else None
    rows = Rows(columns, None, [str(n) for n in range(len(texts))], 0, groups)
    return loaded.logits(name, tokenize_rows(task, rows, loaded.tokenizer))


@pytest.mark.parametrize(
    ("name", "texts"), [("mood", LONG_TEXTS), ("near", PAIRS), ("answers", PAIRS)]
)
def test_packed_exported_and_by_hand_an_example_says_the_same(loaded, name, texts):
    packed = logits_of(loaded, name, texts)
    encoder, head = encoder_of(loaded.model), heads_of(loaded.model)[name]
    for text, logits in zip(texts, packed, strict=True):
        np.testing.assert_allclose(logits_of(loaded, name, [text])[0], logits, atol=1e-5)
        columns = text if isinstance(text, tuple) else (text,)
        encoded = loaded.tokenizer.encode(*([column] for column in columns))
        inputs = ragged_inputs(encoded.token_ids.to_list(), encoded.type_ids.to_list())
        vectors = encoder(inputs, training=False)["examples"]
        assert len(vectors) == int(encoded.windows[0])
        mean = {"examples": tf.reduce_mean(vectors, axis=0, keepdims=True)}
        np.testing.assert_allclose(apply_head(head, mean, {}, training=False)[0], logits, atol=1e-5)


@pytest.mark.long
def test_an_ensemble_reads_windows(loaded):
    tasks = {name: loaded.tasks[name] for name in ("mood", "answers")}
    member = Member(loaded.model, tasks, "run")
    model = build_ensemble([member] * 2, tasks)
    ragged = RaggedEnsemble(model, [member] * 2)
    both = MTDNN(model, loaded.experiment, loaded.tokenizer, ragged=ragged)
    for name, texts in (("mood", LONG_TEXTS), ("answers", [("the boat .", t) for t in LONG_TEXTS])):
        for one, other in zip(both.predict(name, texts), loaded.predict(name, texts), strict=True):
            assert (one.label, one.rank) == (other.label, other.rank)
            assert (one.probabilities or {}) == pytest.approx(other.probabilities or {}, abs=1e-5)


@pytest.fixture(scope="module")
def signatures(loaded):
    return ServedModel(loaded).signatures()


def test_the_exported_functions_say_what_the_model_in_memory_says(loaded, signatures):
    mood = signatures["mood"](tf.constant(LONG_TEXTS))
    near = signatures["near"](*map(tf.constant, map(list, zip(*PAIRS, strict=True))))
    for found, answer in zip(
        mood["probabilities"], loaded.predict("mood", LONG_TEXTS), strict=True
    ):
        np.testing.assert_allclose(found, list(answer.probabilities.values()), atol=1e-5)
    for found, answer in zip(near["score"], loaded.predict("near", PAIRS), strict=True):
        assert float(found) == pytest.approx(answer.score, abs=1e-5)
    a, b = zip(*PAIRS, strict=True)
    task = tf.constant(["mood", "near", "near", "mood"])
    mixed = signatures["serving_default"](task, tf.constant(a), tf.constant(b))["score"].numpy()
    np.testing.assert_allclose(mixed[1:3], near["score"][1:3], atol=1e-5)
    np.testing.assert_allclose(
        mixed[[0, 3]], tf.reduce_max(mood["probabilities"], axis=1).numpy()[[0, 3]], atol=1e-5
    )
    vectors = signatures["encode"](tf.constant(LONG_TEXTS))
    assert {name: value.shape[0] for name, value in vectors.items()} == {
        "cls": 4, "mean": 4, "pooled": 4,
    }  # fmt: skip


def test_a_row_of_word_pieces_is_one_window(loaded, signatures):
    short = LONG_TEXTS[:2]
    ids = loaded.tokenizer.encode(short).token_ids.to_tensor()
    found = signatures["mood_tokens"](ids)["probabilities"]
    np.testing.assert_allclose(
        found, signatures["mood"](tf.constant(short))["probabilities"], atol=1e-6
    )


def test_heads_that_read_words_and_rows_that_are_too_short_are_refused(config):
    assignments = ["tasks.same.head=san"]
    with pytest.raises(
        UserError, match=r"tasks\.same.head is san, which reads words, and data\.win"
    ):
        load_experiment(config, assignments)
    with pytest.raises(UserError, match=r"length 35 is under data\.max_length 12 times data\.win"):
        load_experiment(config, ["batch.length=35"])
    assert load_experiment(config, ["batch.length=null"]).batch_length == 36


# --- what it is for ---


@pytest.mark.long
def test_what_stands_at_the_end_is_learnt_by_windows_and_by_head_tail_alone(tmp_path):
    path = write_experiment(
        tmp_path,
        data={"max_length": 12},
        batch={"rows": 4, "length": 48},
        training={"epochs": 8, "learning_rate": 0.01},
    )
    tree = yaml.safe_load(path.read_text())
    tree["tasks"] = {"mood": tree["tasks"]["mood"]}
    path.write_text(yaml.safe_dump(tree))
    draw = random.Random(0)
    for split, count in (("train", 192), ("dev", 96)):
        lines = ["sentence\tlabel"]
        for number in range(count):
            before = draw.choices(NOUNS, k=draw.randint(16, 22))
            lines.append(
                f"{' '.join(before)} is {draw.choice((BAD, GOOD)[number % 2])}\t{number % 2}"
            )
        (tmp_path / f"data/mood_{split}.tsv").write_text("\n".join(lines) + "\n")
    accuracy = {}
    for reading in ("truncation=longest_first", "truncation=head_tail", "windows=3"):
        workdir = tmp_path / reading
        done = run("train", f"--config={path}", f"--workdir={workdir}", f"--set=data.{reading}")
        assert done.returncode == 0, done.stderr
        best = RunDirectory(workdir).best_dev()
        accuracy[reading] = best["metrics"]["mood"]["dev"]["accuracy"]
    cut, head_tail, windows = accuracy.values()
    assert cut < 0.65
    assert min(head_tail, windows) > 0.8
