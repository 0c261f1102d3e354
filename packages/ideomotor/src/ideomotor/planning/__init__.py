"""Planning and control over a chain."""
