"""A recipe as its file has it: an experiment, its teachers and its student."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, StrictInt, model_validator

from mtdnn_tf.errors import UserError
from mtdnn_tf.experiment.file import assignments, build_experiment, set_key
from mtdnn_tf.experiment.settings import Experiment
from mtdnn_tf.validation.fields import Section, Seed, validated
from mtdnn_tf.validation.yaml_file import read_yaml

Settings = dict[str, Any]  # Dotted key to value, on top of an experiment.
MULTI_TASK = "multi_task"  # Folder of a multi-task teacher, beside those of its tasks' copies.


class TeachersRecipe(Section):
    """The teachers.

    Attributes:
        variants: What each multi-task teacher's settings differ in from the experiment's, as dotted
            keys: `{training.seed: 1, encoder.hidden_dropout: 0.2}`.
        tasks: The tasks that get teachers.
        finetune: Settings with which a copy of a multi-task teacher is fine-tuned for each of the
            tasks; null takes the multi-task teachers as they are.
        keep: How many teachers of a task are kept, the best on its dev splits.
        folds: Cross-fitting: every variant is trained so many times, each without one part of the
            tasks' examples, which it alone teaches then. Null trains each once, on everything.
    """

    variants: Annotated[tuple[Settings, ...], Field(min_length=1)]
    tasks: Annotated[tuple[str, ...], Field(min_length=1)]
    finetune: Settings | None = {}
    keep: Annotated[StrictInt, Field(ge=1)] = 3
    folds: Annotated[StrictInt, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.keep > len(self.variants):
            raise ValueError(f"keep is {self.keep}, but there are {len(self.variants)} variants")
        return self


class StudentRecipe(Section):
    """The student, and the single model that it is compared with.

    Attributes:
        seeds: `training.seed` of each pair of student and single model.
        settings: What the students' settings differ in from the experiment's, as dotted keys.
    """

    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)] = (0,)
    settings: Settings = {}


class RecipeSections(Section):
    """What a recipe's file has besides an experiment."""

    teachers: TeachersRecipe
    student: StudentRecipe = StudentRecipe()


@dataclass(frozen=True)
class Recipe:
    """A recipe.

    Attributes:
        tree: The experiment that everything starts from, as a config tree.
        sections: The rest.
        where: The file, for messages.
    """

    tree: dict[str, Any]
    sections: RecipeSections
    where: str

    def experiment(self, *settings: Mapping[str, Any]) -> Experiment:
        """The experiment with settings on top.

        Raises:
            UserError: One is wrong.
        """
        tree = dict(self.tree)
        for assignment in assignments(*settings):
            set_key(tree, assignment)
        return build_experiment(tree, self.where)

    def student(
        self,
        teachers: Mapping[str, Sequence[str]],
        cache_dir: str,
        *settings: Mapping[str, Any],
    ) -> Experiment:
        """The student's experiment.

        Args:
            teachers: Task name to the run directories that teach it.
            cache_dir: The cache of what they say.
            settings: What comes on top.

        Raises:
            UserError: One is wrong.
        """
        teaching: Settings = {
            f"distillation.teachers.{task}": list(runs) for task, runs in teachers.items()
        }
        teaching |= {
            "distillation.targets": "cached",
            "distillation.cache_dir": cache_dir,
            "distillation.cross_fitted": self.sections.teachers.folds is not None,
        }
        return self.experiment(teaching, self.sections.student.settings, *settings)

    def single(self, seed: int) -> Experiment:
        """The single model that a student of this seed is compared with: the same without teachers."""
        own = self.sections.student.settings
        without = {key: value for key, value in own.items() if not key.startswith("distillation")}
        return self.experiment(without, {"training.seed": seed})


def is_recipe(tree: Mapping[str, Any]) -> bool:
    """Whether a config tree is a recipe, not an experiment."""
    return "teachers" in tree


def load_recipe(path: Path, overrides: Sequence[str] = (), data_dir: str | None = None) -> Recipe:
    """Reads a recipe: an experiment's file with the sections `teachers` and `student`.

    Args:
        path: The file.
        overrides: `key=value` texts that override single keys.
        data_dir: Overrides `data.data_dir`; where neither is given it is the file's folder.

    Raises:
        UserError: Something in it is wrong.
    """
    tree = read_yaml(path)
    for assignment in overrides:
        set_key(tree, assignment)
    parts = {name: tree.pop(name) for name in RecipeSections.model_fields if name in tree}
    sections = validated(RecipeSections, parts, str(path))
    data = tree["data"] = dict(tree.get("data") or {})
    data["data_dir"] = data_dir or data.get("data_dir") or str(path.resolve().parent)
    recipe = Recipe(tree, sections, str(path))
    heads = {task.name for task in recipe.experiment().heads}
    for name in sections.teachers.tasks:
        if name not in heads:
            raise UserError(f"{path}: teachers.tasks names {name!r}, which is not among the tasks")
        if name == MULTI_TASK and sections.teachers.finetune is not None:
            raise UserError(
                f"{path}: teachers.tasks names {name!r}, which is where the copies to fine-tune are "
                "taken from; rename the task"
            )
    for variant in sections.teachers.variants:
        recipe.experiment(variant)
    recipe.experiment(sections.teachers.finetune or {})
    recipe.student({name: ["a teacher"] for name in sections.teachers.tasks}, "a cache")
    return recipe
