"""Errors of the simulator."""

from ideomotor.errors import IdeomotorError


class SimulationError(IdeomotorError):
    """A world that cannot be built, or a command that it cannot follow."""
