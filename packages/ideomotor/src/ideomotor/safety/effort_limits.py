"""What a robot at effort level may do at most, and what holds its weight: both from its description."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from ideomotor.body.urdf import UrdfError, parse_urdf
from ideomotor.safety.gate import JointLimits, LimitError

Gravity = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class EffortLimits:
    """Limits of the commanded joints, efforts included."""

    joint: JointLimits
    effort: np.ndarray  # (n,) [N m] or [N]

    @classmethod
    def from_urdf(cls, urdf: str, names: tuple[str, ...]) -> "EffortLimits":
        """Read the limits of ``names``.

        Raises:
            UrdfError: the URDF is malformed.
            LimitError: a joint is missing, cannot move, or lacks a limit.
        """
        joint = JointLimits.from_urdf(urdf, names)
        limits = {j.get("name"): j.find("limit") for j in parse_urdf(urdf).findall("joint")}
        found = [limits[name] for name in names]
        effort = np.array([0.0 if limit is None else float(limit.get("effort", 0.0)) for limit in found])
        if not (np.isfinite(effort) & (effort > 0.0)).all():
            raise LimitError(f"effort limits {dict(zip(names, effort.tolist(), strict=True))}, expected positive")
        return cls(joint, effort)


def gravity_of(urdf: str, names: tuple[str, ...]) -> Gravity:
    """Return the function from positions (n,) to the efforts (n,) that hold a robot's weight, its base fixed.

    Joints that are not named are taken as at zero.

    Raises:
        UrdfError: the URDF is malformed.
        LimitError: it has no such joint.
    """
    try:
        model = pin.buildModelFromXML(urdf)
    except ValueError as error:
        raise UrdfError(f"pinocchio cannot read the description: {error}") from error
    missing = [name for name in names if not model.existJointName(name)]
    if missing:
        raise LimitError(f"the description has no joint {missing}; it has {list(model.names)[1:]}")
    joints = [model.joints[model.getJointId(name)] for name in names]
    data, neutral = model.createData(), pin.neutral(model)
    velocities = [joint.idx_v for joint in joints]

    def gravity(position: np.ndarray) -> np.ndarray:
        q = neutral.copy()
        for joint, x in zip(joints, position, strict=True):
            q[joint.idx_q : joint.idx_q + joint.nq] = x if joint.nq == 1 else (np.cos(x), np.sin(x))
        held: np.ndarray = pin.computeGeneralizedGravity(model, data, q)[velocities]
        return held

    return gravity
