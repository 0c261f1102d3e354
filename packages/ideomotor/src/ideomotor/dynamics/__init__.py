"""Forward models: what a robot does under an effort."""
