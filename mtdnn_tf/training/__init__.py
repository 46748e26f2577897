"""The training run: the loop, the step, the optimizer, where weights start, what is logged."""
