"""The one exception that data preparation raises on purpose."""


class DataError(Exception):
    """One clear sentence: what is wrong, where, and what to do about it."""
