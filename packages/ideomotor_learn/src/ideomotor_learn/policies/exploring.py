"""Policies of collection: a hold for the first episode, then what was learned, both with exploration.

They are made where they run, from picklable parts: in this process, or in one that shares no file with it. Exploration
follows from a seed and from where each robot starts, so it is the same however the starts are divided into batches.
"""

import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from ideomotor.dynamics.rigid_body import RigidBody, RobotStructure
from ideomotor.policies.learned import LearnedController
from ideomotor.policies.posture import PostureHold
from ideomotor_learn.policies.collect import Policy


def hold_policy(urdf: str, structure: RobotStructure, posture: np.ndarray, noise: float, seed: int) -> Policy:
    """Return a policy that holds a posture; arguments of `PostureHold` and `explored`."""
    body = RigidBody(urdf, structure)
    hold = PostureHold(body, posture)
    return explored(lambda step, q, v, force: hold.effort(q, v), noise, body.effort_limit, seed)


def learned_policy(files: Mapping[str, bytes], urdf: str, noise: float, seed: int) -> Policy:
    """Return the policy of an artefact, given as the content of its files by name.

    Raises:
        ArtefactError: it is none, or not for this robot.
    """
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(content)
        controller = LearnedController.load(folder, urdf, provider="CPUExecutionProvider")
    return explored(controller.effort, noise, controller.body.effort_limit, seed)


def explored(policy: Policy, noise: float, limit: np.ndarray, seed: int) -> Policy:
    """Return a policy with normal noise added to its efforts, which stay within the limits.

    Args:
        policy: of K robots.
        noise: standard deviation by the limits.
        limit: of the efforts, shape (n,).
        seed: of the noise, together with each robot's first state.
    """
    generators: list[np.random.Generator] = []

    def run(step: int, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
        effort = policy(step, q, v, force)
        if noise == 0.0:
            return effort
        if step == 0:
            generators[:] = [np.random.default_rng([seed, zlib.crc32(row.tobytes())]) for row in q]
        normal = np.stack([rng.normal(size=len(limit)) for rng in generators])
        return np.asarray(np.clip(effort + noise * limit * normal, -limit, limit))

    return run
