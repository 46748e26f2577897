"""From a trained model to a served one."""
