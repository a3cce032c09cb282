"""PAMELA: path-aware model-agnostic meta-learning, as a command and as a library."""

__version__ = "0.1.0"
