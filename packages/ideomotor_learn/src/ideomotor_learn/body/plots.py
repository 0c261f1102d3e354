"""Plots of a training run."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Circle

from ideomotor.body.detector import KeypointDetector
from ideomotor_learn.body.dataset import DataSet
from ideomotor_learn.body.evaluate import detect_samples


def plot_losses(history: Sequence[dict[str, float]], path: Path) -> None:
    """Draw every loss term over the steps, on logarithmic axes where the term is positive."""
    if not history:
        return
    names = [name for name in history[-1] if name != "step"]
    columns = 4
    rows = -(-len(names) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(3.4 * columns, 2.4 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat[len(names) :]:
        ax.remove()
    for ax, name in zip(axes.flat, names, strict=False):
        y = np.array([h[name] for h in history])
        ax.plot([h["step"] for h in history], y)
        ax.set_title(name, fontsize=9)
        if (y > 0).all():
            ax.set_yscale("log")
    figure.savefig(path, dpi=80)
    plt.close(figure)


def plot_predictions(artefact: Path, data: DataSet, indices: np.ndarray, path: Path, count: int = 12) -> None:
    """Draw predicted keypoints (circles, 2-sigma) and true ones (crosses) on held-out images."""
    chosen = np.asarray(indices)[np.linspace(0, len(indices) - 1, min(count, len(indices))).astype(int)]
    detections = detect_samples(KeypointDetector.load(artefact), data, chosen)
    columns = min(4, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(4 * columns, 3 * rows), squeeze=False, layout="constrained")
    for ax in axes.flat:
        ax.axis("off")
    for ax, i, found in zip(axes.flat, chosen, detections, strict=False):
        ax.imshow(data.sample(int(i)).rgb)
        ax.plot(*data.uv[i].T, "wx", markersize=6)
        for k, (u, v) in enumerate(found.uv):
            sigma = 2 * np.sqrt(np.trace(found.uv_covariance[k]) / 2)
            ax.add_patch(
                Circle((u, v), max(2.0, sigma), fill=False, color=f"C{k}", alpha=0.3 + 0.7 * found.confidence[k])
            )
    figure.savefig(path, dpi=80)
    plt.close(figure)
