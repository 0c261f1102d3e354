"""What a robot does before anything was learned: it holds a posture, softly."""

import numpy as np

from ideomotor.dynamics.rigid_body import RigidBody

_STIFFNESS, _DAMPING = 100.0, 15.0  # [1/s^2], [1/s] by the inertia
_LEG = 0.03  # [kg m^2] least inertia of a joint of a legged robot: a leg that stands moves more than itself


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
    n, floating = body.n, body.structure.floating_base
    inertia = np.diag(body.mass_matrix(posture))[-n:]
    if floating:
        inertia, weight = np.maximum(inertia, _LEG), np.zeros((len(q), n))
    else:
        weight = np.stack([body.bias(row, np.zeros(body.nv)) for row in q])
    effort = weight + inertia * (_STIFFNESS * (posture[-n:] - q[:, -n:]) - _DAMPING * v[:, -n:])
    return np.asarray(np.clip(effort, -body.effort_limit, body.effort_limit))
