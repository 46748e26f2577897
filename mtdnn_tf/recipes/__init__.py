"""Several runs that belong together: fine-tuning, domain adaptation, distillation in stages."""
