"""The eleven files of a submission to GLUE.

Names, rows and values are those of the benchmark's own sample submission and of its test files
(gluebenchmark.com, "What's the format of the submission?" in its FAQ): a header `index<TAB>prediction`,
then a row for each row of the test file, in its order, with an index from 0.
"""

from dataclasses import dataclass

HEADER = "index\tprediction"


@dataclass(frozen=True)
class GlueFile:
    """One file of a submission.

    Attributes:
        name: Its name without `.tsv`.
        task: The built-in task.
        split: The split of the task that it answers.
        rows: How many rows it has, without the header.
        values: What it says for each label of the task, in the task's order; none for scores.
        majority: The most frequent in the whole train split, or the mean score; of the diagnostics,
            in MNLI's. (The labels of MNLI and QNLI are as good as equally frequent.)
    """

    name: str
    task: str
    split: str
    rows: int
    values: tuple[str, ...]
    majority: str

    @property
    def file(self) -> str:
        """Its name in the zip file."""
        return f"{self.name}.tsv"


BINARY = ("0", "1")
INFERENCE = ("contradiction", "neutral", "entailment")
ENTAILMENT = ("not_entailment", "entailment")
SCORES = (0.0, 5.0)  # The lowest and the highest that STS-B may have.
GLUE_FILES = (
    GlueFile("CoLA", "cola", "test", 1063, BINARY, "1"),
    GlueFile("SST-2", "sst2", "test", 1821, BINARY, "1"),
    GlueFile("MRPC", "mrpc", "test", 1725, BINARY, "1"),
    GlueFile("STS-B", "stsb", "test", 1379, (), "2.701"),
    GlueFile("MNLI-m", "mnli", "test_matched", 9796, INFERENCE, "contradiction"),
    GlueFile("MNLI-mm", "mnli", "test_mismatched", 9847, INFERENCE, "contradiction"),
    GlueFile("QNLI", "qnli", "test", 5463, ENTAILMENT, "not_entailment"),
    GlueFile("QQP", "qqp", "test", 390965, BINARY, "0"),
    GlueFile("RTE", "rte", "test", 3000, ENTAILMENT, "entailment"),
    GlueFile("WNLI", "wnli", "test", 146, BINARY, "0"),
    GlueFile("AX", "ax", "test", 1104, INFERENCE, "contradiction"),
)
