"""What YAML text means, and that what is written means the same when it is read."""

from typing import get_args

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import assignments, set_key
from mtdnn_tf.tasks.spec import TaskSpec
from mtdnn_tf.tasks.split import LabelName, LabelText, SplitSpec
from mtdnn_tf.validation.yaml_file import AS_WRITTEN, parse_yaml, yaml_text

TRICKY = (
    "yes no on off y N true null ~ 010 0x1F 12:30 1_000 1.0 1e3 .inf = -1 2024-01-01 << #".split()
)
long = st.text("\\\t ab\x85\u2028", min_size=90, max_size=250)  # An emitter may break their lines.
texts = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(TRICKY) | long
numbers = st.integers(-(2**64), 2**64) | st.floats(allow_nan=False, allow_infinity=False)
leaves = texts | numbers | st.booleans() | st.none()
trees = st.recursive(
    leaves, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=8
)


@given(st.dictionaries(texts, trees))
def test_what_is_written_reads_back_by_us_and_by_readers_of_yaml_1_1(tree):
    written = yaml_text(tree)
    assert parse_yaml(written, "x") == tree
    assert yaml.safe_load(written) == tree


@given(trees)
def test_a_setting_passed_on_as_text_keeps_its_value(value):
    tree = {}
    set_key(tree, *assignments({"training.x": value}))
    assert tree == {"training": {"x": value}}


@pytest.mark.parametrize(
    "text", "010 -007 0x1F 0o17 0b1 12:30 1_000 yes no on off 2024-01-01".split()
)
def test_what_is_no_decimal_number_is_text(text):
    assert parse_yaml(text, "x") == text


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("5", 5), ("+5", 5), (".5", 0.5), ("1.", 1.0), ("-1E+2", -100.0)]
)  # fmt: skip
def test_a_decimal_number_is_one_in_every_form(text, value):
    found = parse_yaml(text, "x")
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", [*TRICKY[:-2], "1e999", "-0", "+1", "True", "1."])
@pytest.mark.parametrize(
    ("tree", "key"),
    [
        ("{labels: [%s, b]}", ""),
        ("{mood: {skip_labels: [%s]}}", "tasks"),
        ("{%s: a, b: %s}", "tasks.mood.label_values"),
        ("[%s]", "tasks.mood.labels"),
        ("{tasks.mood.labels: [%s]}", "teachers.variants"),
    ],
)
def test_a_label_means_what_it_means_in_quotes(text, tree, key):
    quoted = tree.replace("%s", f"'{text}'")
    assert parse_yaml(tree.replace("%s", text), "x", key) == parse_yaml(quoted, "x", key)


def test_what_holds_labels_is_known_to_the_reader():
    models = (TaskSpec, SplitSpec)
    fields = {n: f for model in models for n, f in model.model_fields.items()}
    texts = {LabelText, LabelName}
    found = {name for name, field in fields.items() if texts & set(get_args(field.annotation))}
    assert found == AS_WRITTEN


def test_a_key_given_twice_names_both_lines():
    with pytest.raises(UserError, match=r"^x.yaml: epochs is given twice, in line 2 and line 4$"):
        parse_yaml("training:\n  epochs: 1\n  seed: 2\n  epochs: 3\n", "x.yaml")


def test_a_merge_key_gives_what_its_mapping_does_not_have():
    text = "a: &a {x: 1, y: 1}\nb: &b {y: 2, z: 2}\nc: {<<: [*a, *b], z: 3}\nd: {<<: *a, y: 4}"
    tree = parse_yaml(text, "x")
    assert tree["c"] == {"x": 1, "y": 1, "z": 3}
    assert tree["d"] == {"x": 1, "y": 4}


def test_aliases_are_copies():
    tree = parse_yaml("a: &a {x: [1]}\nb: *a\nc: {<<: *a}", "x")
    tree["a"]["x"].append(2)
    assert tree["b"] == tree["c"] == {"x": [1]}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: &a [*a]", "an anchor has itself inside"),
        ("[" * 1000, "maximum depth"),
        ("a: !!set {b}", "tag:yaml.org,2002:set is not known"),
        ("a: !!int x", "tag:yaml.org,2002:int is not known"),
        ("a: !mine 3", "the tag !mine is not known"),
        ("a: 1\n[b]: 2", "line 2: a key should be text"),
        ("a: {<<: 3}", "<< should be a mapping"),
        ("a: 1\n---\na: 2", "single document"),
    ],
)
def test_what_is_not_plain_data_is_one_line(text, expected):
    with pytest.raises(UserError) as caught:
        parse_yaml(text, "x.yaml")
    assert str(caught.value).startswith("x.yaml: ")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)
