"""What a robot does before anything was learned: it holds a posture, softly."""

import numpy as np

from ideomotor.dynamics.rigid_body import RigidBody
from ideomotor.policies.posture import PostureHold


def hold_effort(body: RigidBody, posture: np.ndarray, q: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return efforts that hold N robots about a posture, with stiffness and damping by their nominal inertia.

    Args:
        body: the nominal model; of a fixed base its weight is held too.
        posture: configuration, shape (nq,); of a floating base the joints count.
        q: positions, shape (N, nq).
        v: velocities, shape (N, nv).

    Returns:
        Shape (N, n) [N m] or [N], within the limits.
    """
    return PostureHold(body, posture).effort(q, v)
