"""One SavedModel, with a signature for each task."""
