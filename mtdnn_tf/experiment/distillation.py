"""The `distillation` section of an experiment."""

from typing import Annotated, Literal, Self

from pydantic import Field, StrictBool, StrictFloat, model_validator

from mtdnn_tf.validation.fields import LocalPath, Section

Share = Annotated[StrictFloat, Field(ge=0, le=1)]
SoftLoss = Literal["soft_cross_entropy", "kl", "mse"]


class SoftLossSettings(Section):
    """How a task learns from its teachers.

    The loss of an example is `hard_weight` times its hard loss plus `1 - hard_weight` times its soft
    loss; one without a label has no hard loss.

    Attributes:
        hard_weight: Weight of the hard loss; the paper's is a plain average.
        hard_weight_end: Weight at the last step, reached linearly from `hard_weight`; null keeps it.
            From 0 to 1 it is the teacher annealing of arXiv 1907.04829.
        loss: `soft_cross_entropy` (arXiv 1904.09482, Eq 4); `kl`, the same less the entropy of the
            soft target, with the same gradient; `mse`, the mean over classes of the squared
            difference of logits. A similarity task always has the squared difference of scores.
        temperature: T that logits of teachers and student are divided by for the soft loss, which is
            multiplied by T^2 (arXiv 1503.02531). Not used by `mse` and similarity tasks.
    """

    hard_weight: Share = 0.5
    hard_weight_end: Share | None = None
    loss: SoftLoss = "soft_cross_entropy"
    temperature: Annotated[StrictFloat, Field(gt=0)] = 1.0


class DistillationSettings(SoftLossSettings):
    """Knowledge distillation from trained runs; without teachers there is none.

    Attributes:
        teachers: Task name to the run directories that teach it, whose predictions are averaged. A
            task that is not named here has its hard loss alone.
        checkpoint: Which checkpoint of the teachers.
        targets: `auto` has the teachers label first what the cache of soft targets lacks, and takes
            them from there; `cached` takes what `mtdnn-distill --label_only` wrote; `live` runs the
            teachers in every training step.
        cache_dir: Where the cache of soft targets is; null is `soft_targets` in the workdir.
        calibrated: Divide each teacher's logits by the temperature that fits its task's dev labels
            best (`mtdnn_tf.evaluation.temperatures`); scores, and relevances under a sigmoid, stay.
        cross_fitted: Take for each example the teachers alone that did not see its label, because
            `data.folds` of their runs, and of those that they started from, left it out. Not with
            `targets: live`.
        tasks: Task name to the settings that differ for it: `hard_weight`, `hard_weight_end`, `loss`,
            `temperature`.
    """

    teachers: dict[str, Annotated[tuple[LocalPath, ...], Field(min_length=1)]] = {}
    checkpoint: Literal["best", "last"] = "best"
    targets: Literal["live", "cached", "auto"] = "auto"
    cache_dir: LocalPath | None = None
    calibrated: StrictBool = False
    cross_fitted: StrictBool = False
    tasks: dict[str, SoftLossSettings] = {}

    def of_task(self, name: str) -> SoftLossSettings:
        """The settings of one task."""
        own = self.tasks[name].model_dump(exclude_unset=True) if name in self.tasks else {}
        shared = {key: getattr(self, key) for key in SoftLossSettings.model_fields}
        return SoftLossSettings(**shared | own)

    @property
    def runs(self) -> list[str]:
        """All teachers, each once."""
        return sorted({run for runs in self.teachers.values() for run in runs})

    @property
    def logits_taught(self) -> set[str]:
        """Tasks that learn logits, not probabilities."""
        return {name for name in self.teachers if self.of_task(name).loss == "mse"}

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name, runs in self.teachers.items():
            if len(set(runs)) != len(runs):
                raise ValueError(f"teachers.{name} names a run twice")
        if self.cross_fitted and self.targets == "live":
            raise ValueError("cross_fitted goes with targets: auto or cached, not live")
        if untaught := [name for name in self.tasks if name not in self.teachers]:
            raise ValueError(f"tasks.{untaught[0]} has no teachers")
        return self
