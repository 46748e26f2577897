"""The demo benchmark: GLUE's layout, determinism, held-out rows, labels that follow rules."""

import hashlib
import re
from collections import Counter
from pathlib import Path
from random import Random

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import matthews_corrcoef

from mtdnn_tf.demo_data import acceptability, inference, sentiment, similarity, write_benchmark
from mtdnn_tf.demo_data.benchmark import TASKS, Split, Task
from mtdnn_tf.demo_data.grammar import Clause, NounPhrase, choose_clause
from mtdnn_tf.demo_data.lexicon import add_s, lexicon
from mtdnn_tf.demo_data.logic import judge_quantified
from mtdnn_tf.errors import UserError

LABELS = {
    "CoLA": {"0", "1"},
    "SST-2": {"0", "1"},
    "MNLI": {"entailment", "neutral", "contradiction"},
}
# Per task: does train and dev have a header, where are the texts and the label there and in test?
COLUMNS = {"CoLA": (False, (3,), 1, (1,)), "SST-2": (True, (0,), 1, (1,))}
COLUMNS |= {"STS-B": (True, (7, 8), 9, (7, 8)), "MNLI": (True, (8, 9), -1, (8, 9))}
Row = tuple[tuple[str, ...], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("demo") / "glue"
    write_benchmark(path)
    return path


def table(folder: Path, task: str, split: str) -> list[list[str]]:
    text = (folder / task / f"{split}.tsv").read_text(encoding="utf-8")
    return [line.split("\t") for line in text.removesuffix("\n").split("\n")]


def read(folder: Path, task: str, split: str) -> list[Row]:
    header, texts, label, test_texts = COLUMNS[task]
    rows = table(folder, task, split)
    if split.startswith("test"):
        return [(tuple(row[i] for i in test_texts), "") for row in rows[1:]]
    return [(tuple(row[i] for i in texts), row[label]) for row in rows[header:]]


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.tsv"))
    }


def bag(texts: tuple[str, ...]) -> Counter[str]:
    """Unigrams of each sentence, of what only one of them has, and overlap counts."""
    bags = [Counter(re.findall(r"\w+", text.lower())) for text in texts]
    counts = Counter({f"{i}:{w}": n for i, words in enumerate(bags) for w, n in words.items()})
    if len(bags) == 2:
        one, two = bags
        counts |= Counter({"both": len(one & two), "first": len(one - two), "any": len(one | two)})
        counts |= Counter({f"lost:{w}": 1 for w in one - two} | {f"new:{w}": 1 for w in two - one})
    return counts


ALL_SPLITS = [(task, split) for task in TASKS for split in task.splits]
IDS = [f"{task.folder}/{split.name}" for task, split in ALL_SPLITS]
DEV_SPLITS = [(t.folder, s.name) for t, s in ALL_SPLITS if s.name.startswith("dev")]


def test_same_seed_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_benchmark(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(folder)


def test_other_seed_other_bytes(tmp_path: Path) -> None:
    for seed in (1, 2):
        write_benchmark(tmp_path / str(seed), seed=seed, scale=0.05)
    one, two = digests(tmp_path / "1"), digests(tmp_path / "2")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one)


def test_files_and_headers_are_those_of_glue(folder: Path) -> None:
    assert sorted(digests(folder)) == sorted(f"{t.folder}/{s.name}.tsv" for t, s in ALL_SPLITS)
    pair = ["sentence1", "sentence2"]
    stsb = ["index", "genre", "filename", "year", "old_index", "source1", "source2", *pair]
    parses = ["sentence1_binary_parse", "sentence2_binary_parse", "sentence1_parse"]
    mnli = ["index", "promptID", "pairID", "genre", *parses, "sentence2_parse", *pair]
    votes = [f"label{i}" for i in range(1, 6)]
    expected = {
        ("CoLA", "test"): ["index", "sentence"],
        ("SST-2", "train"): ["sentence", "label"],
        ("SST-2", "dev"): ["sentence", "label"],
        ("SST-2", "test"): ["index", "sentence"],
        ("STS-B", "train"): [*stsb, "score"],
        ("STS-B", "dev"): [*stsb, "score"],
        ("STS-B", "test"): stsb,
        ("MNLI", "train"): [*mnli, "label1", "gold_label"],
        ("MNLI", "dev_matched"): [*mnli, *votes, "gold_label"],
        ("MNLI", "dev_mismatched"): [*mnli, *votes, "gold_label"],
        ("MNLI", "test_matched"): mnli,
        ("MNLI", "test_mismatched"): mnli,
    }
    for (task, split), header in expected.items():
        rows = table(folder, task, split)
        assert rows[0] == header
        assert {len(row) for row in rows} == {len(header)}
        if "index" in header:
            assert [row[0] for row in rows[1:]] == [str(i) for i in range(len(rows) - 1)]


def test_cola_train_and_dev_have_four_columns_and_no_header(folder: Path) -> None:
    for split in ("train", "dev"):
        for source, label, mark, sentence in table(folder, "CoLA", split):
            assert source in acceptability.PHENOMENA
            assert (label, mark) in (("1", ""), ("0", "*"))
            assert sentence[0].isupper()


@pytest.mark.parametrize(("task", "split"), ALL_SPLITS, ids=IDS)
def test_encoding_and_sentences(folder: Path, task: Task, split: Split) -> None:
    data = (folder / task.folder / f"{split.name}.tsv").read_bytes()
    assert data.isascii()
    assert b"\r" not in data
    assert data.endswith(b"\n")
    for texts, _ in read(folder, task.folder, split.name):
        for text in texts:
            assert text[-1] in ".?"
            assert text == " ".join(text.split())
            assert "_" not in text
            assert "{" not in text
            assert not re.search(r"\b(a [aeiou](?!sed)|an [^aeiouAEIOU])", text), text


@pytest.mark.parametrize("task", [task.folder for task in TASKS])
def test_no_row_twice_within_or_across_splits(folder: Path, task: str) -> None:
    splits = [s.name for t, s in ALL_SPLITS if t.folder == task]
    keys = [
        tuple(sorted(text.lower() for text in texts))
        for split in splits
        for texts, _ in read(folder, task, split)
    ]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("task", sorted(LABELS))
def test_labels_are_balanced(folder: Path, task: str) -> None:
    for split in ("train", *(split for name, split in DEV_SPLITS if name == task)):
        counts = Counter(label for _, label in read(folder, task, split))
        assert set(counts) == LABELS[task]
        assert len(set(counts.values())) == 1


def test_scores_cover_the_range(folder: Path) -> None:
    for split in ("train", "dev"):
        labels = [label for _, label in read(folder, "STS-B", split)]
        assert all(re.fullmatch(r"[0-5]\.\d{3}", label) for label in labels)
        counts = Counter(float(label) for label in labels)
        assert min(counts) == 0.0
        assert max(counts) == 5.0
        assert max(counts.values()) < 0.4 * len(labels)


def test_training_budget(folder: Path) -> None:
    sizes = {task.folder: len(read(folder, task.folder, "train")) for task in TASKS}
    assert all(900 <= size <= 2_000 for size in sizes.values())
    assert 4_000 <= sum(sizes.values()) <= 6_000
    for task, split in DEV_SPLITS:
        assert 200 <= len(read(folder, task, split)) <= 400


def test_mismatched_words_are_nowhere_in_training(folder: Path) -> None:
    seen = {
        word
        for task in TASKS
        for texts, _ in read(folder, task.folder, "train")
        for word in re.findall(r"\w+", " ".join(texts).lower())
    }
    country = lexicon("country")
    nouns = [*country.people, *country.things]
    assert not {form for n in nouns for form in (n.singular.lower(), n.plural)} & seen
    assert not {name.singular.lower() for name in country.names} & seen
    assert not {verb.past for verb in country.verbs} & seen
    adjectives = country.evaluations + country.person_adjectives + country.thing_adjectives
    assert not {adjective.word.lower() for adjective in adjectives} & seen
    unseen_rows = [
        texts
        for texts, _ in read(folder, "MNLI", "dev_mismatched")
        if set(re.findall(r"\w+", " ".join(texts).lower())) - seen
    ]
    assert len(unseen_rows) == len(read(folder, "MNLI", "dev_mismatched"))


@pytest.mark.parametrize(("task", "split"), DEV_SPLITS)
def test_a_bag_of_words_does_not_solve_it(folder: Path, task: str, split: str) -> None:
    train, dev = read(folder, task, "train"), read(folder, task, split)
    vectorizer = DictVectorizer()
    features = vectorizer.fit_transform([bag(texts) for texts, _ in train])
    dev_features = vectorizer.transform([bag(texts) for texts, _ in dev])
    gold = [label for _, label in dev]
    if task == "STS-B":
        model = Ridge(10.0).fit(features, [float(label) for _, label in train])
        scores, expected = model.predict(dev_features), [float(label) for label in gold]
        assert 0.3 < np.corrcoef(scores, expected)[0, 1] < 0.85
        assert spearmanr(scores, expected)[0] < 0.85
        return
    model = LogisticRegression(C=0.1, max_iter=1000).fit(features, [label for _, label in train])
    predicted = model.predict(dev_features)
    assert np.mean(predicted == np.array(gold)) < 0.75
    if task == "CoLA":
        assert abs(matthews_corrcoef(gold, predicted)) < 0.3


def test_agreement_follows_the_features_of_the_subject() -> None:
    town = lexicon("town")
    forms = {noun.singular: False for noun in town.people}
    forms |= {noun.plural: True for noun in town.people}
    present = {form for v in town.verbs for form in (v.base, v.third)}
    singular = {v.third for v in town.verbs}
    rng = Random(5)
    for _ in range(200):
        for text, good in zip(
            acceptability.agreement_across_phrase(rng, town), (True, False), strict=True
        ):
            tokens = text.rstrip(".").split()
            verb = next(token for token in tokens[4:] if token in present)
            assert (forms[tokens[1]] != (verb in singular)) == good, text


def test_most_minimal_pairs_have_the_same_words() -> None:
    town, rng = lexicon("town"), Random(6)
    differ = {"agreement_across_clause", "question_gap", "adjunct_island"}
    for name, make in acceptability.PHENOMENA.items():
        for _ in range(50):
            good, bad = make(rng, town)
            assert good != bad
            if name not in differ:
                assert sorted(good[:-1].lower().split()) == sorted(bad[:-1].lower().split())


@pytest.mark.parametrize("polarity", [1, -1])
def test_opinions_have_the_polarity_of_their_words(polarity: int) -> None:
    town, rng = lexicon("town"), Random(7)
    own = {a.word for a in town.evaluations if a.polarity == polarity}
    for _ in range(100):
        assert set(sentiment.direct(rng, town, polarity).split()) & own
        assert not set(sentiment.negated(rng, town, polarity).split()) & own


def test_wording_costs_nothing_and_exchanged_roles_cost_two() -> None:
    town, rng = lexicon("town"), Random(8)
    nurse, teacher = (
        NounPhrase(next(n for n in town.people if n.singular == word))
        for word in ("nurse", "teacher")
    )
    thank, blame = (next(v for v in town.verbs if v.base == b) for b in ("thank", "blame"))
    one = Clause(nurse, thank, teacher, "in the park")
    two = Clause(teacher, thank, nurse, "in the park")
    assert one.active() == "the nurse thanked the teacher in the park"
    assert one.passive() == "the teacher was thanked by the nurse in the park"
    assert similarity.score(one, one) == 5.0
    assert similarity.score(one, two) == 3.0
    assert similarity.score(one, Clause(nurse, blame, teacher, "in the park")) == 3.0
    assert similarity.score(one, Clause(teacher, blame, nurse, "in the office")) == 0.0
    for _ in range(100):
        a, b = choose_clause(rng, town), choose_clause(rng, town)
        assert similarity.score(a, b) == similarity.score(b, a)
        assert similarity.score(a, a) == 5.0


@pytest.mark.parametrize(
    ("premise", "hypothesis", "nouns", "predicates", "label"),
    [
        ("a", "a", "narrower", "equal", "entailment"),  # A surgeon slept. A doctor slept.
        ("a", "a", "wider", "equal", "neutral"),
        ("every", "every", "wider", "equal", "entailment"),
        ("every", "every", "narrower", "equal", "neutral"),
        ("every", "a", "narrower", "narrower", "entailment"),
        ("every", "every", "equal", "wider", "neutral"),
        ("no", "no", "wider", "wider", "entailment"),  # No doctor slept. No surgeon slept well.
        ("no", "no", "narrower", "equal", "neutral"),
        ("no", "a", "wider", "wider", "contradiction"),
        ("no", "not every", "equal", "equal", "entailment"),
        ("every", "not every", "equal", "narrower", "contradiction"),
        ("not every", "a", "equal", "equal", "neutral"),
        ("a", "no", "narrower", "narrower", "contradiction"),
        ("every", "a", "equal", "apart", "neutral"),
    ],
)
def test_quantifiers(premise, hypothesis, nouns, predicates, label) -> None:
    assert judge_quantified(premise, hypothesis, nouns, predicates) == label


def test_inference_labels_seen_from_the_surface() -> None:
    town, rng = lexicon("town"), Random(9)
    for _ in range(300):
        premise, hypothesis, label = inference.comparisons(rng, town)
        a, claim, b = re.fullmatch(r"(\w+) is (.+) than (\w+)", hypothesis).groups()
        if f"{a} and {b} are" in premise or premise.endswith((f"{a} and {b}", f"{b} and {a}")):
            assert label == "neutral"
        if re.search(rf"\b{a} is {claim} than {b}\b", premise):
            assert label == "entailment"
        if re.search(rf"\b{b} is {claim} than {a}\b", premise):
            assert label == "contradiction"
        premise, hypothesis, label = inference.roles(rng, town)
        if premise == hypothesis:
            assert label == "entailment"


def test_lexicon_is_wide_and_consistent() -> None:
    town, country = lexicon("town"), lexicon("country")
    nouns = [*town.people, *town.things, *country.people, *country.things]
    assert len(nouns) > 100
    assert len(town.verbs) + len(country.verbs) > 60
    assert len(town.evaluations) + len(country.evaluations) >= 60
    for noun in nouns:
        assert noun.plural != noun.singular
        assert noun.hypernym is None or noun.hypernym.kind == noun.kind
    words = [a.word for a in town.evaluations + country.evaluations]
    assert len(words) == len(set(words))
    for verb in town.verbs + country.verbs:
        assert verb.third == add_s(verb.base)
        assert verb.synonym is None or verb.synonym.frame == verb.frame


def test_writing_replaces_an_older_benchmark_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "glue"
    write_benchmark(target, seed=1, scale=0.05)
    before = digests(target)
    write_benchmark(target, seed=2, scale=0.05)
    assert digests(target) != before
    assert [path.name for path in tmp_path.iterdir()] == ["glue"]
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="expected a new or empty folder"):
        write_benchmark(target, scale=0.05)
    assert (target / "notes.txt").read_text() == "mine"


def test_a_failure_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mtdnn_tf.demo_data.benchmark.MAX_VAIN_DRAWS", 0)
    with pytest.raises(UserError, match="expected a smaller scale"):
        write_benchmark(tmp_path / "glue")
    assert list(tmp_path.iterdir()) == []


def test_scale_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="expected a number above 0"):
        write_benchmark(tmp_path / "glue", scale=0)
