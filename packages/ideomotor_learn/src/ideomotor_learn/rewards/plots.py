"""Plots of a learned reward."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ideomotor.rewards.field import FieldSlice
from ideomotor.rewards.weights import Reward
from ideomotor_learn.rewards.learn import Shown

_AXES = ("x", "y", "z")
_STATES = 100  # of a demonstration, evenly over its way, whose weights are drawn
_DPI = 80


def plot_loss(loss: Sequence[float], path: Path) -> None:
    """Draw the outer loss [m] over the outer steps."""
    figure, ax = plt.subplots(figsize=(5, 3.2), layout="constrained")
    ax.plot(1e3 * np.asarray(loss))
    ax.set(xlabel="outer step", ylabel="root of the outer loss [mm]", ylim=(0, None))
    ax.grid(alpha=0.3)
    _save(figure, path)


def plot_paths(shown: Sequence[Shown], planned: Sequence[np.ndarray], tip: int, learned: int, path: Path) -> None:
    """Draw where the tip went and where it is planned to go, relative to the goal, from three sides.

    Args:
        shown: the demonstrations, those learned from first.
        planned: keypoints for each of them, shape (T + 1, K, 3) in the base frame [m].
        tip: index of the tip among the keypoints.
        learned: how many were learned from; the others were held out.
        path: of the image.
    """
    figure, axes = plt.subplots(1, 3, figsize=(13, 4), layout="constrained")
    for ax, (i, j) in zip(axes, ((0, 2), (1, 2), (0, 1)), strict=True):
        for number, (s, z) in enumerate(zip(shown, planned, strict=True)):
            for keypoints, style in ((s.keypoints, "-"), (z, "--")):
                x = 1e3 * ((keypoints[:, tip] - s.goal[tip]) @ s.R_base_task)  # (T, 3)
                width = 1.2 if number < learned else 2.4
                ax.plot(x[:, i], x[:, j], style, color=f"C{number % 10}", linewidth=width)
        ax.plot(0, 0, "k*", markersize=10)
        _label(ax, _AXES[i], _AXES[j])
    for style, name in (("-", "demonstrated"), ("--", "planned")):
        axes[0].plot([], [], style, color="k", label=name)
    if learned < len(shown):
        axes[0].plot([], [], color="k", linewidth=2.4, label="held out")
    axes[0].legend(fontsize=8)
    figure.suptitle("path of the tip, relative to the goal", fontsize=10)
    _save(figure, path)


def plot_weights(shown: Sequence[Shown], reward: Reward, names: Sequence[str], path: Path) -> None:
    """Draw the weights of every keypoint and axis over the progress along the demonstrations, mean and range.

    Where something pulls, draw also how much, and where to.

    Args:
        shown: the demonstrations.
        reward: what was learned.
        names: of the keypoints.
        path: of the image.
    """
    progress = np.linspace(0.0, 1.0, _STATES)
    said = []
    for s in shown:
        x = (s.evenly(_STATES) - s.goal) @ s.R_base_task
        said.append(reward.weights(x.reshape(_STATES, -1), progress))
    rows = {"weight of motion": (np.array([w.weight for w in said]), "log")}  # (B, states, D)
    pull, waypoint = (np.array([getattr(w, name) for w in said]) for name in ("pull", "waypoint"))
    if pull.any():
        rows |= {"pull": (pull, "log"), "waypoint from the goal [mm]": (1e3 * waypoint, "linear")}
    figure, axes = plt.subplots(
        len(rows), 3, figsize=(13, 3.2 * len(rows)), sharex=True, sharey="row", squeeze=False, layout="constrained"
    )
    for row, (title, (y, scale)) in zip(axes, rows.items(), strict=True):
        y = y.reshape(len(said), _STATES, len(names), 3)
        for i, ax in enumerate(row):
            for k, name in enumerate(names):
                ax.plot(progress, y[:, :, k, i].mean(0), color=f"C{k % 10}", label=name)
                low, high = y[:, :, k, i].min(0), y[:, :, k, i].max(0)
                ax.fill_between(progress, low, high, color=f"C{k % 10}", alpha=0.2, linewidth=0)
            ax.set(title=f"{title}, {_AXES[i]}", yscale=scale)
            ax.grid(alpha=0.3)
    for ax in axes[-1]:
        ax.set_xlabel("progress")
    axes[0, 0].legend(fontsize=8)
    _save(figure, path)


def plot_field(shown: Sequence[Shown], slices: Sequence[FieldSlice], tip: int, path: Path) -> None:
    """Draw the reward field on planes through the goal, and the demonstrated paths of the tip before it.

    Args:
        shown: the demonstrations.
        slices: two of the field.
        tip: index of the tip among the keypoints.
        path: of the image.
    """
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.6), layout="constrained")
    highest = max(float(s.cost.max()) for s in slices)
    levels = np.linspace(0.0, highest, 16)
    for ax, field in zip(axes, slices, strict=True):
        i, j = (_AXES.index(axis) for axis in field.axes)
        x, y = 1e3 * field.displacement[..., i], 1e3 * field.displacement[..., j]
        filled = ax.contourf(x, y, field.cost, levels, cmap="viridis")
        for s in shown:
            p = 1e3 * ((s.keypoints[:, tip] - s.goal[tip]) @ s.R_base_task)
            ax.plot(p[:, i], p[:, j], "w-", linewidth=0.8)
        ax.plot(0, 0, "r*", markersize=10)
        _label(ax, *field.axes)
    figure.colorbar(filled, ax=axes, label="cost of the straight way [m$^2$]", format="%.2g")
    figure.suptitle("reward field around the goal, and the demonstrations", fontsize=10)
    _save(figure, path)


def _label(ax: Axes, horizontal: str, vertical: str) -> None:
    ax.set(xlabel=f"{horizontal} [mm]", ylabel=f"{vertical} [mm]", aspect="equal")
    ax.grid(alpha=0.3)


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
    plt.close(figure)
