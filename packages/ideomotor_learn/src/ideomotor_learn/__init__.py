"""Learning for ideomotor (torch). Exports the artefacts that the `ideomotor` package runs."""

import contextlib

# The CUDA builds of torch import triton when a model is exported or an optimizer made. It has an LLVM inside, and so
# has Mesa's software renderer: if that was loaded before (a simulator in this process), importing triton is a
# segmentation fault. The other order works.
with contextlib.suppress(ImportError):
    import triton  # type: ignore[import-not-found]  # noqa: F401 - not there with CPU builds
