"""Knowledge distillation of ensembles into one student (arXiv 1904.09482)."""
