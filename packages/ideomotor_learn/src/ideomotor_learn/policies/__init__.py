"""Learning of controllers."""
