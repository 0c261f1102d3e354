"""Limits, watchdog and the rules of the command gate."""
