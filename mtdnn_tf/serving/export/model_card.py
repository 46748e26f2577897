"""The page that goes with an exported model."""

from importlib.metadata import version
from typing import Any

from mtdnn_tf.experiment.data import limit_of
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.pretrained import licences
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.loading import MTDNN
from mtdnn_tf.tasks.metrics import METRICS
from mtdnn_tf.tasks.names import TOGETHER
from mtdnn_tf.tasks.spec import TaskSpec

CARD = """# {name}

A multi-task model for language understanding (MT-DNN, arXiv 1901.11504): one encoder, an output for
each task. Made with mtdnn_tf {version}.

## Tasks

| signature | texts | answer |
| --- | --- | --- |
{tasks}
Class ids count the labels in this order, from 0.

## How to call it

Version {number} of a model served by tensorflow_model_server under the name `{name}`:

```sh
curl http://localhost:8501/v1/models/{name}:predict -d '{request}'
```

Beside a signature for each task there are `<task>_tokens` (word pieces in), `serving_default` (rows of
any tasks: `task`, `sentence1`, `sentence2`), {together} (every fitting task for the same
texts), and `encode` (vectors). `saved_model_cli show --dir . --all` lists inputs and outputs; in Python,
`import tensorflow_text` before loading.

## Dev metrics

Of the run, whose encoder computed in {training_precision}; here
it {precision}.

{metrics}
## Training data

| split | examples | cut | median length | longest | SHA-256 of rows and settings |
| --- | ---: | ---: | ---: | ---: | --- |
{data}
## Encoder and licence

Started from {encoder}; texts are cut at {limit}. The
licence of the encoder, and those of the data, apply to this model. {licence}
{source}"""

IN_8_BITS = "computes in bfloat16, and its matrices but for the embeddings are kept in 8 bits"


def model_card(
    directory: RunDirectory,
    loaded: MTDNN,
    name: str,
    number: int,
    checkpoint: str,
    precision: str,
) -> str:
    """The card of a run's model, in Markdown.

    Args:
        directory: The run directory.
        loaded: The model, in whatever precision.
        name: What the model is called.
        number: The version.
        checkpoint: Which of the run's: `best` or `last`.
        precision: What the encoder computes in here, or `int8`.
    """
    experiment = loaded.experiment
    first = experiment.heads[0]
    values = ", ".join(f'"{field}": "..."' for field in first.fields)
    source = directory.read_json(path) if (path := directory.source_file).is_file() else {}
    return CARD.format(
        name=name,
        number=number,
        version=version("mtdnn_tf"),
        tasks="".join(_task_row(task, experiment) for task in experiment.tasks.values()),
        request=f'{{"signature_name": "{first.name}", "instances": [{{{values}}}]}}',
        together=" and ".join(
            f"`{signature}`"
            for signature, texts in TOGETHER.items()
            if any(len(task.fields) == texts for task in experiment.heads)
        ),
        metrics=_metrics(directory, loaded, checkpoint),
        training_precision=experiment.training.precision,
        precision=IN_8_BITS if precision == "int8" else f"computes in {precision}",
        data="".join(
            f"| {split} | {' | '.join(_counts(of_split))} | `{of_split['key']}` |\n"
            for split, of_split in directory.read_json(directory.data_file).items()
        ),
        encoder=_encoder(experiment, source.get("commit")),
        limit=limit_of(experiment.data.max_length, experiment.data.windows),
        licence=_licence(directory),
        source=_files(source.get("files", {})),
    )


def _counts(of_split: dict[str, Any]) -> list[str]:
    """Examples, how many are cut, and lengths in tokens; nothing of what an older run did not note."""
    keys = ("examples", "cut", "median_length", "longest")
    return [f"{of_split[key]:,}" if key in of_split else "" for key in keys]


def _encoder(experiment: Experiment, commit: str | None) -> str:
    start = experiment.init.run
    name = f"the run `{start}`" if start else f"`{experiment.encoder.pretrained}`"
    return f"{name}, whose encoder is of commit `{commit}` of the hub" if commit else name


def _files(files: dict[str, str]) -> str:
    if not files:
        return ""
    rows = "".join(f"| `{name}` | `{digest}` |\n" for name, digest in files.items())
    return f"\n| file of the encoder | SHA-256 |\n| --- | --- |\n{rows}"


def _licence(directory: RunDirectory) -> str:
    files = [f"`ENCODER_{path.name}`" for path in licences(directory.encoder)]
    if files:
        return f"The encoder's is in {', '.join(files)}."
    return "The encoder came without a file of its licence: look it up where it came from."


def _task_row(task: TaskSpec, experiment: Experiment) -> str:
    head = task if task.predict_with is None else experiment.tasks[task.predict_with]
    answer = head.kind.range_of(head)
    return f"| `{task.name}` | {', '.join(f'`{field}`' for field in task.fields)} | {answer} |\n"


def _metrics(directory: RunDirectory, loaded: MTDNN, checkpoint: str) -> str:
    examples = directory.read_json(directory.data_file)
    if not any("/dev" in split for split in examples):
        return "The run had no dev splits.\n"
    dev = None
    if checkpoint == "best" and loaded.checkpoint is not None:
        dev = directory.dev_record(loaded.checkpoint)
    if dev is None:
        return (
            f"Not measured for this checkpoint: see `mtdnn-evaluate --checkpoint={checkpoint}`.\n"
        )
    rows = [f"After epoch {dev['epoch']}, step {dev['step']}:\n\n"]
    rows.append("| task | n | metric | percent |\n| --- | ---: | --- | ---: |\n")
    for task, splits in dev["metrics"].items():
        for split, metrics in splits.items():
            count = examples[f"{task}/{split}"]["examples"]
            for metric, value in metrics.items():
                cells = (
                    f"{task} {split}",
                    f"{count:,}",
                    METRICS[metric].title,
                    f"{100 * value:.1f}",
                )
                rows.append(f"| {' | '.join(cells)} |\n")
    return "".join(rows)
