"""The experiment: everything a run depends on, as one tree read from YAML."""

from collections.abc import Iterable
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    StrictBool,
    StrictFloat,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)

from mtdnn_tf.errors import UserError, did_you_mean
from mtdnn_tf.experiment.data import DataSettings
from mtdnn_tf.experiment.distillation import DistillationSettings
from mtdnn_tf.experiment.samplers import SAMPLERS
from mtdnn_tf.tasks.heads import HEADS
from mtdnn_tf.tasks.names import check_tasks
from mtdnn_tf.tasks.spec import Rate, TaskSpec
from mtdnn_tf.validation.fields import LocalPath, Positive, Section, Seed, is_saved

Precision = Literal["float32", "mixed_bfloat16", "mixed_float16"]


class EncoderSettings(Section):
    """The shared encoder.

    Attributes:
        pretrained: A local folder in one of the layouts of `mtdnn_tf.pretrained.formats`, or a name
            (see `mtdnn_tf.pretrained.resolver`).
        revision: A commit or a tag of a model on the hub; null is the newest.
        pooling: What a head sees of an example: `cls_pooler`, tanh of a dense layer on `[CLS]` as in
            BERT and the released MT-DNN; `cls`, the vector at `[CLS]`; `mean`, the mean over tokens.
            `auto` takes what `1_Pooling/config.json` of the folder says, else `cls_pooler`, or `mean`
            where the weights have no pooler; in a run that goes on, or starts from another
            (`init.run`), what that has. The run's `config.yaml` says what it came to.
        hidden_dropout: Dropout rate in the encoder; null keeps what the pretrained folder says.
        attention_dropout: Dropout rate of attention probabilities; null keeps the folder's.
        lower_case: Whether text is lower-cased; null reads it from the tokenizer's files, the model's
            name or the vocabulary.
    """

    pretrained: LocalPath = "all-MiniLM-L6-v2"
    revision: str | None = None
    pooling: Literal["auto", "cls_pooler", "cls", "mean"] = "auto"
    hidden_dropout: Rate | None = None
    attention_dropout: Rate | None = None
    lower_case: StrictBool | None = None

    @property
    def settled_pooling(self) -> Literal["cls_pooler", "cls", "mean"]:
        """The pooling of a run, whose config says what `auto` came to.

        Raises:
            UserError: It is still `auto`.
        """
        if self.pooling == "auto":
            raise UserError(
                "encoder.pooling is auto in the config of a run, which has to say which"
            )
        return self.pooling


class InitSettings(Section):
    """A trained run to start from, in place of `encoder.pretrained`.

    Attributes:
        run: The run directory; its encoder, vocabulary and heads are taken. `--init_from` sets it.
        checkpoint: Which of its checkpoints.
        heads: Tasks whose head is taken; the others of this experiment start anew. Null takes the
            head of every task that both have; `[]` takes the encoder alone.
    """

    run: LocalPath | None = None
    checkpoint: Literal["best", "last"] = "best"
    heads: tuple[str, ...] | None = None


class BatchSettings(Section):
    """The fixed shape of a packed batch: `rows x length` slots, shared by all replicas.

    Attributes:
        rows: Rows of a global batch.
        pieces: How many pieces a replica's part of the batch goes through in, one after another,
            with their gradients added up: the same update with a fraction of the memory.
        length: Slots of a row; null is what the longest example takes, `data.max_length` times
            `data.windows`.
        eval_rows: Rows of a global batch in evaluation and prediction.
    """

    rows: Positive = 8
    pieces: Positive = 1
    length: Positive | None = None
    eval_rows: Positive = 16


SamplerName = Annotated[
    str,
    AfterValidator(lambda name: SAMPLERS.find(name).name),
    WithJsonSchema({"type": "string", "enum": list(SAMPLERS)}),
]


class MixtureSettings(Section):
    """How tasks share an epoch.

    Algorithm 1 of arXiv 1901.11504 is `mode: proportional` with `batch_by: task`: an epoch is every
    example of every task once, an update is the mean loss of a batch of one task. The defaults see
    the same examples, but an update is the mean loss of examples of all tasks.

    Attributes:
        mode: `proportional` sees every example once an epoch; the others draw from task i in
            proportion to: `temperature`, size^(1/temperature); `uniform`, 1; `annealed`, size^a with
            a going linearly from 1 in the first epoch to `annealed_floor` in the last; `weights`,
            the number given for it. No mode repeats an example of a task before all of that
            task's examples were seen.
        temperature: For `temperature`; 2 is sampling by the square root of size.
        annealed_floor: For `annealed`, the exponent of the last epoch.
        weights: For `weights`: task name to relative number of examples.
        examples_per_epoch: For all modes but `proportional`; null is the size of all tasks together.
        batch_by: `example` mixes tasks within a batch; `task` makes every batch of one task.
    """

    mode: SamplerName = "proportional"
    temperature: Annotated[StrictFloat, Field(ge=1)] = 2.0
    annealed_floor: Annotated[StrictFloat, Field(ge=0, le=1)] = 0.2
    weights: dict[str, Annotated[StrictFloat, Field(gt=0)]] = {}
    examples_per_epoch: Positive | None = None
    batch_by: Literal["example", "task"] = "example"

    @model_validator(mode="after")
    def _check(self) -> Self:
        SAMPLERS[self.mode].check(self)
        return self


class TrainingSettings(Section):
    """Optimization and the training loop.

    Attributes:
        epochs: Epochs, each a pass of the mixture.
        optimizer: `adamax` (the papers') or `adamw`.
        learning_rate: Peak of the schedule.
        head_learning_rate: Peak for the heads, which start from nothing; null is `learning_rate`.
            A small encoder needs more: in one update Adam moves a logit by at most the rate times
            the sum of the vector's absolute values.
        warmup_proportion: Part of all steps with linear warm-up; linear decay to 0 follows.
        weight_decay: Decoupled; not on biases and LayerNorm.
        clip_norm: Limit of the global gradient norm, applied after the sum over replicas.
        average_decay: Dev splits are evaluated, and the best model saved, with an exponential moving
            average of the weights, of which a step keeps this part; 0.999 averages over about the
            last thousand steps. Null takes the weights as they are, as the papers do.
        loss_reduction: What a batch's loss is: `example` is the mean over all examples in the
            global batch of `loss_weight` times their loss; `task` is the sum over tasks of
            `loss_weight` times the mean over that task's examples, so that in batches of several
            tasks an example of a small task counts for many of a large one. With
            `mixture.batch_by: task` the two are the same.
        precision: `float32`, or `mixed_bfloat16` (bfloat16 arithmetic, float32 variables), or
            `mixed_float16` (the loss is scaled; a step whose gradient overflows is left out and
            halves the scale).
        recompute: Compute the activations of blocks again for the gradient instead of keeping
            them: less memory for a third more time.
        seed: Of shuffling, dropout and new variables.
        steps_per_loop: Steps run in one call; logs, SIGTERM and checkpoints come between loops.
        checkpoint_every_steps: Steps between checkpoints; each epoch's end saves one as well.
        keep_checkpoints: How many of the last checkpoints are kept.
        evaluate_every_epochs: Epochs between evaluations of the dev splits; the last epoch always
            has one. The best checkpoint is chosen among epochs that have one.
        xla: Compile the step with XLA; `auto` is on for GPU and TPU, off for CPU.
        deterministic: Use only deterministic kernels, so that a resumed run is bit-equal.
    """

    epochs: Positive = 3
    optimizer: Literal["adamax", "adamw"] = "adamax"
    learning_rate: Annotated[StrictFloat, Field(gt=0)] = 5e-5
    head_learning_rate: Annotated[StrictFloat, Field(gt=0)] | None = None
    warmup_proportion: Rate = 0.1
    weight_decay: Annotated[StrictFloat, Field(ge=0)] = 0.01
    clip_norm: Annotated[StrictFloat, Field(gt=0)] | None = 1.0
    average_decay: Annotated[StrictFloat, Field(gt=0, lt=1)] | None = None
    loss_reduction: Literal["example", "task"] = "example"
    precision: Precision = "float32"
    recompute: StrictBool = False
    seed: Seed = 0
    steps_per_loop: Positive = 10
    checkpoint_every_steps: Positive = 200
    keep_checkpoints: Positive = 2
    evaluate_every_epochs: Positive = 1
    xla: Literal["auto", "on", "off"] = "auto"
    deterministic: StrictBool = True


class Experiment(Section):
    """A whole run.

    Attributes:
        tasks: Task name to what its built-in spec is overridden with (nothing: null or `{}`), or to
            a full spec for a task of one's own. A list of names is the same as a map to nothing.
    """

    tasks: Annotated[dict[str, TaskSpec], Field(min_length=1)]
    encoder: EncoderSettings = EncoderSettings()
    init: InitSettings = InitSettings()
    data: DataSettings = DataSettings()
    batch: BatchSettings = BatchSettings()
    mixture: MixtureSettings = MixtureSettings()
    training: TrainingSettings = TrainingSettings()
    distillation: DistillationSettings = DistillationSettings()

    @property
    def batch_length(self) -> int:
        """Slots of a row."""
        return self.batch.length or self.data.max_length * self.data.windows

    def with_pooling(self, pooling: Literal["cls_pooler", "cls", "mean"]) -> Self:
        """The same experiment with a pooling that is settled."""
        encoder = self.encoder.model_copy(update={"pooling": pooling})
        return self.model_copy(update={"encoder": encoder})

    @property
    def heads(self) -> tuple[TaskSpec, ...]:
        """The tasks that have a head of their own, in the config's order."""
        return tuple(task for task in self.tasks.values() if task.has_head)

    @model_validator(mode="after")
    def _check(self, info: ValidationInfo) -> Self:
        longest = self.data.max_length * self.data.windows
        if self.batch_length < longest:
            windows = f" times data.windows {self.data.windows}" if self.data.windows > 1 else ""
            raise ValueError(
                f"batch.length {self.batch_length} is under data.max_length {self.data.max_length}"
                f"{windows}: the longest example would not fit a row"
            )
        if not is_saved(info):
            check_tasks({name: task.splits for name, task in self.tasks.items()})
        heads = [task.name for task in self.heads]
        for task in self.tasks.values():
            if not task.has_head and task.predict_with not in heads:
                raise ValueError(
                    f"tasks.{task.name} is predicted with the head of {task.predict_with!r}, "
                    "which is not among the tasks"
                )
            if HEADS[task.head].reads_words and self.data.windows > 1:
                raise ValueError(
                    f"tasks.{task.name}.head is {task.head}, which reads words, and data.windows "
                    f"{self.data.windows} averages vectors: expected head linear, or 1 window"
                )
            if task.has_head and "train" not in task.splits:
                raise ValueError(f"tasks.{task.name} has no train split")
        writers: dict[str, str] = {}
        for task in self.heads:
            for split in task.splits_like("dev"):
                other = writers.setdefault(f"{task.name}_{split}", task.name)
                if other != task.name:
                    raise ValueError(
                        f"dev splits of tasks.{other} and tasks.{task.name} would both be called "
                        f"{task.name}_{split}; rename one of the tasks"
                    )
        named: dict[str, Iterable[str]] = {
            "mixture.weights": self.mixture.weights,
            "data.folds": self.data.folds,
            "data.subsets": self.data.subsets,
            "init.heads": self.init.heads or (),
            "distillation.teachers": self.distillation.teachers,
        }
        for setting, names in named.items():
            for name in names:
                if name not in heads:
                    hint = did_you_mean(name, heads)
                    raise ValueError(f"{setting} names an unknown task {name!r}{hint}")
        if self.init.heads is not None and self.init.run is None:
            raise ValueError("init.heads needs init.run, the run that they are taken from")
        if self.mixture.weights and (missing := set(heads) - set(self.mixture.weights)):
            raise ValueError(f"mixture.weights lacks the task {sorted(missing)[0]!r}")
        return self
