"""Policies: target motions, goals along them, and learned controllers that track them."""
