"""Every file in configs/ is an experiment or a recipe, and says how to run it."""

from pathlib import Path

import pytest

from mtdnn_tf.experiment.file import load_experiment
from mtdnn_tf.recipes.distillation_file import is_recipe, load_recipe
from mtdnn_tf.validation.yaml_file import read_yaml

CONFIGS = sorted((Path(__file__).parents[2] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_valid_and_opens_with_its_command(path):
    (load_recipe if is_recipe(read_yaml(path)) else load_experiment)(path)
    comment = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"--config=configs/{path.name}" in line for line in comment)


@pytest.mark.parametrize("size", ["base", "large"])
def test_the_papers_configs_have_the_papers_settings(size):
    """arXiv 1901.11504, section 4.2; and the head of each task in both phases is the same."""
    multi_task, finetune = (
        load_experiment(path)
        for path in CONFIGS
        if path.stem in (f"mtdnn_{size}", f"mtdnn_{size}_finetune")
    )
    for experiment, rate in ((multi_task, 5e-5), (finetune, 2e-5)):
        training = experiment.training
        assert training.optimizer == "adamax"
        assert training.learning_rate == rate
        assert (training.warmup_proportion, training.clip_norm, training.epochs) == (0.1, 1.0, 5)
        assert experiment.data.max_length == 512
        assert experiment.tasks["mnli"].dropout == 0.3
        assert experiment.tasks["cola"].dropout == 0.05
    assert [task.name for task in multi_task.heads] == [task.name for task in finetune.heads]
    assert len(multi_task.heads) == 8
    assert multi_task.mixture.mode == "proportional"
    assert (
        multi_task.mixture.batch_by == "task"
    )  # So the loss is the mean over one task's examples.
    for task in multi_task.heads:
        assert task == finetune.tasks[task.name]
        assert task.head == ("san" if task.name in ("mnli", "rte", "qqp", "mrpc") else "linear")
