"""A run on disk, and the model back from it."""
