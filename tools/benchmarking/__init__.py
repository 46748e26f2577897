"""The parts of tools/benchmark.py: a workload, the contenders, and the processes they run in."""
