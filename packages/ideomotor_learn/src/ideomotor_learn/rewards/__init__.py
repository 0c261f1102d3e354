"""Learning of rewards from demonstrations."""
