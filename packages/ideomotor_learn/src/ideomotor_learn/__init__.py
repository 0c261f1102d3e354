"""Learning for ideomotor (torch). Exports the artefacts that the `ideomotor` package runs."""
