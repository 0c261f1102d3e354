"""Settings of every suite."""

from hypothesis import settings

settings.register_profile("ideomotor", deadline=None)  # a slow machine is no counter-example
settings.load_profile("ideomotor")
