"""Pictures of how a controller's errors went: a PNG for a run's folder, an array for a viewer. They need no display."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from ideomotor_learn.policies.training import IterationMetrics  # its module needs torch; pictures do not

_CURVES = (("prediction_error", "prediction"), ("task_error", "task"), ("performance_error", "performance"))
_DPI = 80


def plot_errors(history: Sequence["IterationMetrics"], path: Path) -> None:
    """Write the curves of `draw_errors` as PNG.

    Raises:
        OSError: the file cannot be written.
    """
    _figure(history).savefig(path, dpi=_DPI)


def draw_errors(history: Sequence["IterationMetrics"]) -> np.ndarray:
    """Return a picture of prediction, task, performance and position error by iteration, shape (H, W, 3) uint8, RGB.

    Args:
        history: of a run so far; an empty one gives empty axes.
    """
    canvas = FigureCanvasAgg(_figure(history))
    canvas.draw()  # type: ignore[no-untyped-call]
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])  # type: ignore[no-untyped-call]


def _figure(history: Sequence["IterationMetrics"]) -> Figure:
    figure = Figure(figsize=(9, 3.6), dpi=_DPI, layout="constrained")
    left, right = figure.subplots(1, 2)
    iterations = [m.iteration for m in history]
    for name, label in _CURVES:
        left.plot(iterations, [getattr(m, name) for m in history], "o-", markersize=3, label=label)
    bound = [m.task_error + m.prediction_error for m in history]
    left.plot(iterations, bound, "k:", linewidth=1.0, label="task + prediction")
    left.legend(fontsize=8)
    _label(left, history, "error of a step")
    right.plot(iterations, [m.position_error for m in history], "o-", markersize=3, color="C3")
    _label(right, history, "length of the error in position [rad, m]")
    return figure


def _label(ax: Axes, history: Sequence["IterationMetrics"], what: str) -> None:
    ax.set(xlabel="iteration", ylabel=what)
    if history:
        ax.set_yscale("log")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.grid(alpha=0.3, which="both")
