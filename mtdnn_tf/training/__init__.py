"""The training run: losses, optimizer, trainer, checkpoints, evaluation, progress."""
