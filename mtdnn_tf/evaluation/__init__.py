"""Answers and how good they are: logits of whole splits, metrics, files of predictions."""
