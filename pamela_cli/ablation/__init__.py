"""Ablations: the same training with other settings of the update rule, compared on the same tasks."""
