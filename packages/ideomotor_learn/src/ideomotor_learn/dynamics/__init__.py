"""Learning of forward models."""
