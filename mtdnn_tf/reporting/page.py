"""The page of a report, and its pictures."""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.bootstrap import Difference, paired_bootstrap
from mtdnn_tf.evaluation.prediction_files import DevPredictions
from mtdnn_tf.evaluation.progress import split_title
from mtdnn_tf.experiment.data import limit_of
from mtdnn_tf.files import write_atomically
from mtdnn_tf.reporting import figures
from mtdnn_tf.reporting.run_record import RunRecord, Split
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.tasks.metrics import METRICS, compute
from mtdnn_tf.tasks.spec import TaskSpec

PAGE_FILE = "report.html"
RESOLUTION = 120  # Dots an inch.


@dataclass(frozen=True)
class Error:
    """One answer that is not right: its texts, the answers' names, and how wrong it is."""

    uid: str
    texts: Sequence[str]
    right: str
    answered: str
    size: float


@dataclass(frozen=True)
class Section:
    """The part of the page about a split.

    Attributes:
        split: The split.
        errors: The worst answers.
        remark: Why there are no texts; may be empty.
    """

    split: Split
    errors: Sequence[Error]
    remark: str

    @property
    def picture(self) -> str:
        """Name of its picture."""
        return f"{self.split.task.name}_{self.split.name}"

    @property
    def caption(self) -> str:
        """What its picture shows."""
        return self.split.task.kind.caption

    @property
    def measure(self) -> str:
        """What the size of an error is."""
        return self.split.task.kind.measure


@dataclass(frozen=True)
class ComparedRow:
    """A metric of a split in two runs; see `Difference`."""

    title: str
    examples: str
    metric: str
    here: float
    there: float
    gain: Difference


@dataclass(frozen=True)
class Comparison:
    """Another run beside the one that is reported.

    Attributes:
        other: Its name.
        rows: The metrics of the splits that both answered.
        left_out: The other splits, each with why they are not compared.
    """

    other: str
    rows: Sequence[ComparedRow]
    left_out: Sequence[str]


def write_report(
    workdir: str | Path,
    others: Sequence[str | Path] = (),
    data_dir: str | None = None,
    output: Path | None = None,
) -> Path:
    """Writes `report.html`, a page without outside resources, and `report/`, its pictures as PNG.

    Those of another `output` lie in a folder of its name.

    Args:
        workdir: The run directory.
        others: Run directories to compare it with.
        data_dir: Folder of the data, for the texts of errors; by default where the run found it.
        output: The page; by default in the run directory.

    Returns:
        The page.

    Raises:
        UserError: There is no run, or the page cannot be written.
    """
    if output and (output.is_dir() or not output.name):
        raise UserError(f"cannot write {output}: it is a folder")
    run = RunRecord(workdir)
    comparisons = [_compare(run, RunRecord(other)) for other in others]
    output = output or RunDirectory(workdir).path / PAGE_FILE
    with rc_context({"text.parse_math": False}):  # A label may have dollars in it.
        pictures = {name: _png(figure) for name, figure in _figures(run)}
    page = _environment(pictures).get_template("page.html.j2")
    text = page.render(
        run=run,
        tasks=run.experiment.heads,
        metrics=list(_metrics(run)),
        comparisons=comparisons,
        limit=limit_of(run.experiment.data.max_length, run.experiment.data.windows),
        sections=[_section(run, split, data_dir) for split in run.splits],
    )
    folder = output.with_name(output.stem if output.suffix else f"{output.name}_pictures")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in pictures.items():
            (folder / f"{name}.png").write_bytes(content)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror}") from error
    write_atomically(output, text)
    return output


def _figures(run: RunRecord) -> Iterator[tuple[str, Figure]]:
    if run.loops:
        yield "losses", figures.losses(run)
        yield "training", figures.training(run)
        yield "examples", figures.examples(run)
    if run.epochs:
        yield "dev_metrics", figures.dev_metrics(run)
    for split in run.splits:
        yield f"{split.task.name}_{split.name}", figures.answers(split)


def _png(figure: Figure) -> bytes:
    content = io.BytesIO()
    # Without the version of matplotlib in it.
    figure.savefig(content, format="png", dpi=RESOLUTION, metadata={"Software": None})
    return content.getvalue()


def _environment(pictures: Mapping[str, bytes]) -> Environment:
    def picture(name: str, caption: str) -> Markup:
        source = f"data:image/png;base64,{base64.b64encode(pictures[name]).decode()}"
        figure = '<figure><div><img alt="{0}" src="{1}"></div><figcaption>{0}</figcaption></figure>'
        return Markup(figure).format(caption, source)

    environment = Environment(
        loader=PackageLoader("mtdnn_tf", "reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["picture"] = picture
    environment.globals["percent"] = lambda value: f"{100 * value:.1f}"
    environment.globals["signed"] = lambda value: f"{100 * value:+.1f}"
    return environment


def _metrics(run: RunRecord) -> Iterator[dict[str, object]]:
    """The rows of the table of dev metrics."""
    if run.best is None:
        return
    counts = {(s.task.name, s.name): f"{len(s.predictions.labels):,}" for s in run.splits}
    for task, splits in run.best["metrics"].items():
        for split, values in splits.items():
            for metric, value in values.items():
                yield {
                    "title": split_title(task, split),
                    "examples": counts.get((task, split), ""),
                    "metric": METRICS[metric].title,
                    "best": value,
                    "last": run.epochs[-1]["metrics"][task][split][metric],
                }


def _section(run: RunRecord, split: Split, data_dir: str | None) -> Section:
    settings = run.experiment.data
    if data_dir:
        settings = settings.model_copy(update={"data_dir": data_dir})
    texts: Mapping[str, Sequence[str]] = {}
    remark = ""
    try:
        texts = run.texts(split, settings)
    except UserError as error:
        remark = str(error)
    found = split.predictions
    errors = [
        Error(
            uid=found.uids[row],
            texts=texts[found.uids[row]] if texts else (),
            right=split.right(row),
            answered=split.answered(row),
            size=float(split.errors[row]),
        )
        for row in split.worst()
    ]
    return Section(split, errors, remark)


def _compare(run: RunRecord, other: RunRecord) -> Comparison:
    theirs = {_key(split): split for split in other.splits}
    rows: list[ComparedRow] = []
    left_out: list[str] = []
    for split in run.splits:
        there = theirs.pop(_key(split), None)
        if there is None:
            left_out.append(f"{split.title} (this run alone answered it)")
            continue
        if differs := _other_task(split.task, there.task):
            left_out.append(f"{split.title} ({differs})")
            continue
        mine, others = split.predictions, other.answers(split.task, split.name)
        if not (_same_content(split, there) and _same_examples(mine, others)):
            left_out.append(f"{split.title} (other examples)")
            continue
        for metric in split.task.metrics:
            here, also = (
                compute(metric, one.labels, one.predictions, one.groups) for one in (mine, others)
            )
            gain = paired_bootstrap(metric, [others], [mine])
            examples = f"{len(mine.labels):,}"
            rows.append(ComparedRow(split.title, examples, METRICS[metric].title, here, also, gain))
    left_out += [f"{split.title} (the other alone answered it)" for split in theirs.values()]
    return Comparison(other.name, rows, left_out)


def _key(split: Split) -> tuple[str, str]:
    return split.task.name, split.name


def _other_task(here: TaskSpec, there: TaskSpec) -> str:
    """In what two tasks of the same name differ so that their answers cannot be compared."""
    if here.kind != there.kind:
        return f"{here.kind} here, {there.kind} there"
    if set(here.labels) != set(there.labels):
        return f"labels {', '.join(here.labels)} here, {', '.join(there.labels)} there"
    return ""


def _same_content(one: Split, other: Split) -> bool:
    return None in (one.content, other.content) or one.content == other.content


def _same_examples(one: DevPredictions, other: DevPredictions) -> bool:
    return (
        one.uids == other.uids
        and np.array_equal(one.labels, other.labels)
        and (one.groups is None or other.groups is None or np.array_equal(one.groups, other.groups))
    )
