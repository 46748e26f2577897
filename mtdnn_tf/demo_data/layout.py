"""GLUE's columns: a function per task gives the lines of a file, header line included."""

from collections.abc import Callable, Sequence

from mtdnn_tf.demo_data.example import Example

Table = list[tuple[str, ...]]
Layout = Callable[[str, Sequence[Example]], Table]


def is_test(split: str) -> bool:
    """Whether the split is laid out without labels."""
    return split.startswith("test")


def cola_table(split: str, examples: Sequence[Example]) -> Table:
    """Source code (here the phenomenon), label, `*` where bad, sentence; no header but in test."""
    if is_test(split):
        return [("index", "sentence"), *numbered(examples)]
    return [(e.phenomenon, e.label, "*" if e.label == "0" else "", e.texts[0]) for e in examples]


def sst_table(split: str, examples: Sequence[Example]) -> Table:
    """Sentence and label; test: index and sentence."""
    if is_test(split):
        return [("index", "sentence"), *numbered(examples)]
    return [("sentence", "label"), *((e.texts[0], e.label) for e in examples)]


def stsb_table(split: str, examples: Sequence[Example]) -> Table:
    """Ten columns, the last one the score; test: nine."""
    header = (
        *("index", "genre", "filename", "year", "old_index", "source1", "source2"),
        *("sentence1", "sentence2", "score"),
    )
    rows = [
        (str(i), "grammar", e.phenomenon, "none", f"{i:04d}", "none", "none", *e.texts, e.label)
        for i, e in enumerate(examples)
    ]
    width = len(header) - is_test(split)
    return [tuple(row[:width]) for row in [header, *rows]]


def mnli_table(split: str, examples: Sequence[Example]) -> Table:
    """Twelve columns in train, sixteen in dev (five votes), ten in test; no parses."""
    votes = 0 if is_test(split) else 1 if split == "train" else 5
    header = (
        *("index", "promptID", "pairID", "genre", "sentence1_binary_parse"),
        *("sentence2_binary_parse", "sentence1_parse", "sentence2_parse"),
        *("sentence1", "sentence2"),
        *(f"label{vote + 1}" for vote in range(votes)),
        *(("gold_label",) if votes else ()),
    )
    rows = (
        (str(i), str(i), f"{i}p", e.phenomenon, "", "", "", "", *e.texts)
        + (e.label,) * (votes + (votes > 0))
        for i, e in enumerate(examples)
    )
    return [header, *rows]


def numbered(examples: Sequence[Example]) -> Table:
    """Index and texts."""
    return [(str(i), *e.texts) for i, e in enumerate(examples)]
