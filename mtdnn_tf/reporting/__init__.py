"""The report of a run: one page with its curves, its answers and its mistakes."""
