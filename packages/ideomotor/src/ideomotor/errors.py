"""The base of every error this package raises on bad input."""


class IdeomotorError(ValueError):
    """Bad input. The message names the field, its value and what was expected."""
