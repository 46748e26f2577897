"""The whole recipe of arXiv 1904.09482: teachers, their choice, their labels, the student."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from mtdnn_tf.data.splits import open_dev
from mtdnn_tf.distillation.labelling import label
from mtdnn_tf.distillation.soft_targets import teacher_fingerprint
from mtdnn_tf.distillation.teaching import check_same_teachers
from mtdnn_tf.distribution.signals import Stop, leave_if_told
from mtdnn_tf.errors import UserError
from mtdnn_tf.evaluation.averaged_logits import averaged_logits
from mtdnn_tf.evaluation.evaluator import LogitsRunner, evaluation_shape
from mtdnn_tf.evaluation.prediction_files import write_predictions
from mtdnn_tf.experiment.file import assignments
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.recipes.distillation_file import MULTI_TASK, Recipe, Settings
from mtdnn_tf.recipes.finetuning import finetune_experiment, single_task
from mtdnn_tf.runs.checkpoints import epochs_evaluated
from mtdnn_tf.runs.directory import RunDirectory
from mtdnn_tf.runs.ensemble import build_ensemble, load_member
from mtdnn_tf.training.loop import train
from mtdnn_tf.validation.yaml_file import read_yaml, yaml_text


class RecipeRun:
    """A recipe carried out in a folder; every stage goes on where it was, or is skipped when done.

    single/seed_S            the single models
    teachers/V/multi_task    the multi-task teachers, V the number of the variant
    teachers/V/TASK          their fine-tuned copies
    soft_targets             the cache
    ensemble                 the ensembles' dev predictions
    student/seed_S           the students

    With folds there is a folder more below V, `fold_F`.

    Args:
        recipe: The recipe.
        workdir: The folder.
        strategy: The distribution strategy.
    """

    def __init__(self, recipe: Recipe, workdir: Path, strategy: tf.distribute.Strategy) -> None:
        self.recipe, self.workdir = recipe, workdir
        self._strategy = strategy
        self._stop: Stop = ()
        self._teachers = recipe.sections.teachers
        self.seeds = recipe.sections.student.seeds
        if RunDirectory(workdir).exists:
            raise UserError(f"{workdir} is a run directory; choose another --workdir")

    def single(self, seed: int) -> Path:
        """The run directory of the single model of a seed."""
        return self.workdir / "single" / f"seed_{seed}"

    def student(self, seed: int) -> Path:
        """The run directory of the student of a seed."""
        return self.workdir / "student" / f"seed_{seed}"

    def ensemble(self) -> Path:
        """The folder of the ensembles' dev predictions."""
        return self.workdir / "ensemble"

    def teachers_of(self, variant: int, task: str) -> list[Path]:
        """The run directories of one variant as the teacher of a task, one a fold."""
        name = MULTI_TASK if self._teachers.finetune is None else task
        return [folder / name for folder in self._folders(variant)]

    def _folders(self, variant: int) -> list[Path]:
        folder = self.workdir / "teachers" / str(variant)
        if self._teachers.folds is None:
            return [folder]
        return [folder / f"fold_{fold}" for fold in range(self._teachers.folds)]

    def run(self, stop: Stop = ()) -> dict[str, list[int]]:
        """Carries everything out.

        Args:
            stop: See `train`.

        Returns:
            Task name to the numbers of the variants that teach it, the best first.

        Raises:
            UserError: See `train`.
            Interrupted: It was told to stop, and the state was saved.
        """
        self._stop = stop
        for seed in self.seeds:
            self._train(self.recipe.single(seed), self.single(seed))
        for number, variant in enumerate(self._teachers.variants):
            for fold, folder in enumerate(self._folders(number)):
                self._train_teacher(variant, fold, folder)
        kept = {task: self._best(task) for task in self._teachers.tasks}
        student = self._student(kept)
        label(student, self.workdir / "soft_targets", self._strategy, stop)
        for task in kept:
            self._predict_together(student, task)
        for seed in self.seeds:
            experiment = self._student(kept, {"training.seed": seed})
            self._train(experiment, self.student(seed))
        return kept

    def _train_teacher(self, variant: Settings, fold: int, folder: Path) -> None:
        folds = {
            f"data.folds.{task}": {"of": self._teachers.folds, "without": fold}
            for task in self._teachers.tasks
            if self._teachers.folds is not None
        }
        multi_task = folder / MULTI_TASK
        self._train(self.recipe.experiment(folds, variant), multi_task)
        if self._teachers.finetune is None:
            return
        for task in self._teachers.tasks:
            experiment = finetune_experiment(
                str(multi_task), None, assignments(self._teachers.finetune)
            )
            self._train(single_task(experiment, task), folder / task)

    def _train(self, experiment: Experiment, workdir: Path) -> None:
        directory = RunDirectory(workdir)
        if (
            directory.exists
            and epochs_evaluated(directory.checkpoints) == experiment.training.epochs
        ):
            directory.check_same(experiment)
            if experiment.distillation.teachers:
                check_same_teachers(directory, experiment.distillation)
            logging.info("%s is trained already", workdir)
            return
        logging.info("training %s", workdir)
        train(experiment, workdir, self._strategy, self._stop)

    def score(self, variant: int, task: str) -> float:
        """A teacher's score on the dev splits of a task, the mean over its folds."""
        scores = []
        for folder in self.teachers_of(variant, task):
            scores.append(RunDirectory(folder).best_dev()["scores"][task])
        return float(np.mean(scores))

    def _best(self, task: str) -> list[int]:
        numbers = range(len(self._teachers.variants))
        by_score = sorted(numbers, key=lambda number: -self.score(number, task))
        return by_score[: self._teachers.keep]

    def _student(
        self, kept: Mapping[str, Sequence[int]], *settings: Mapping[str, Any]
    ) -> Experiment:
        runs = {
            task: [str(path) for number in variants for path in self.teachers_of(number, task)]
            for task, variants in kept.items()
        }
        return self.recipe.student(runs, str(self.workdir / "soft_targets"), *settings)

    def _predict_together(self, student: Experiment, task: str) -> None:
        """Writes the dev predictions of a task's ensemble, unless they are those of its runs already.

        Each run reads the texts with its own tokenizer, as it does to label.
        """
        settings = student.distillation
        fingerprints = {
            run: teacher_fingerprint(run, settings.checkpoint) for run in settings.teachers[task]
        }
        names = self.ensemble() / f"{task}.yaml"
        if names.is_file() and read_yaml(names) == fingerprints:
            return
        (spec,) = (head for head in student.heads if head.name == task)
        answers = []
        for run in fingerprints:
            leave_if_told(self._stop, f"all that is done is in {self.workdir}")
            with self._strategy.scope():
                member, loaded = load_member(run, settings.checkpoint)
                model = build_ensemble([member], {task: spec}, {task: [0]}, of_logits=[task])
            sources = open_dev([spec], student.data, loaded.tokenizer)
            runner = LogitsRunner(model, evaluation_shape(loaded.experiment), self._strategy)
            answers.append(runner.run([(of_split, store) for of_split, _, store in sources]))
        for (_, split, store), *of_runs in zip(sources, *answers, strict=True):
            logits = averaged_logits(spec, of_runs, store.first_of_query).numpy()
            write_predictions(self.ensemble() / f"{task}_{split}.tsv", spec, store, logits)
        names.write_text(yaml_text(fingerprints), encoding="utf-8")
