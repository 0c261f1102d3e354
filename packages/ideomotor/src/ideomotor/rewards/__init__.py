"""Learned rewards: what a loaded artefact says about states."""
