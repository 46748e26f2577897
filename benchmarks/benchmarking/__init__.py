"""The parts of benchmarks/training.py: a workload, the contenders, and the processes they run in."""
