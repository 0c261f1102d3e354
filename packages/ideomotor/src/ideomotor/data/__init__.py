"""Recordings on disk: MCAP bags and time alignment."""
