r"""Forward kinematics of a `KinematicChain` on tensors: batched, differentiable, for any transform of `torch.func`.

.. math::
    {}^{base}p_k(q) = M_1(\theta_1) \cdots M_m(\theta_m) \, {}^{m}T_{ee} \, {}^{ee}p_k, \qquad
    \theta = C q + o

with the joints 1..m between base and end effector, C and o the chain's coupling and offset (mimic joints), and one
matrix a joint, P its placement on the joint before, K its axis as a skew matrix, d its direction:

.. math::
    M(\theta) = P \left( I + \sin\theta \, K + (1 - \cos\theta) \, K^2 \right) \;\text{(revolute)}, \qquad
    M(\theta) = P \, (I, \theta d) \;\text{(prismatic)}

So all matrices of a batch are one linear combination of constants, and only their product is a loop over the joints.
"""

from dataclasses import dataclass

import numpy as np
import pinocchio as pin
import torch
from torch import Tensor

from ideomotor.body.chain import ChainError, KinematicChain


@dataclass(frozen=True, eq=False)
class TorchChain:
    """Keypoints fixed to the end of a chain, as a function of its joint positions; make it with `from_chain`.

    Everything is float64. Homogeneous matrices, one for each of the m joints between base and end effector.
    """

    joint_names: tuple[str, ...]  # (n,)
    lower: Tensor  # (n,) [rad] or [m]; -inf for a continuous joint
    upper: Tensor  # (n,) [rad] or [m]; inf for a continuous joint
    coupling: Tensor  # (m, n) C
    offset: Tensor  # (m,) o [rad] or [m]
    constant: Tensor  # (m, 4, 4) part of M that does not depend on the joint
    sine: Tensor  # (m, 4, 4) factor of sin
    cosine: Tensor  # (m, 4, 4) factor of cos
    linear: Tensor | None  # (m, 4, 4) factor of the displacement; None if no joint is prismatic
    points_last: Tensor  # (4, K) keypoints in the last joint's frame, homogeneous [m]

    @classmethod
    def from_chain(cls, chain: KinematicChain, points_ee: np.ndarray) -> "TorchChain":
        """Take the kinematics from a chain.

        Args:
            chain: whose ``model`` is read.
            points_ee: keypoints fixed in the frame of ``chain.ee_link``, shape (K, 3) [m].

        Raises:
            ChainError: ``points_ee`` has another shape or is not finite, or a joint is neither revolute nor prismatic.
        """
        points = np.asarray(points_ee, dtype=float)
        if points.ndim != 2 or points.shape[1] != 3 or not len(points) or not np.isfinite(points).all():
            raise ChainError(f"points_ee of shape {points.shape}, expected (K, 3) with K >= 1, finite: {points}")
        model, data = chain.model, chain.model.createData()
        frame = model.frames[chain.frame_ids[chain.ee_link]]
        joints = _joints_to(model, frame.parentJoint)
        pin.framesForwardKinematics(model, data, pin.neutral(model))  # joints above the base are locked
        T_base_root = data.oMf[chain.frame_ids[chain.base_link]].inverse()
        parts = np.array([_matrices(model, data, joint) for joint in joints]).reshape(-1, 4, 4, 4)
        last = frame.placement
        if joints:
            parts[0] = T_base_root.homogeneous @ parts[0]
        else:
            last = T_base_root * last
        rows = [model.joints[joint].idx_v for joint in joints]
        constant, sine, cosine, linear = (torch.from_numpy(parts[:, i].copy()) for i in range(4))
        return cls(
            joint_names=chain.joint_names,
            lower=torch.tensor(chain.lower),
            upper=torch.tensor(chain.upper),
            coupling=torch.tensor(chain.coupling[rows]),
            offset=torch.tensor(chain.offset[rows]),
            constant=constant,
            sine=sine,
            cosine=cosine,
            linear=linear if linear.any() else None,
            points_last=torch.from_numpy(last.homogeneous @ np.vstack([points.T, np.ones(len(points))])),
        )

    @property
    def n(self) -> int:
        """Number of joints."""
        return len(self.joint_names)

    def keypoints(self, q: Tensor) -> Tensor:
        """Return the keypoints in the base frame, shape (..., K, 3) [m].

        Args:
            q: joint positions in the chain's order, shape (..., n) [rad] or [m], float64.

        Raises:
            ChainError: ``q`` has another shape or type.
        """
        if q.shape[-1:] != (self.n,) or q.dtype != torch.float64:
            raise ChainError(f"q has shape {tuple(q.shape)} and type {q.dtype}, expected (..., {self.n}) of float64")
        theta = (q @ self.coupling.T + self.offset)[..., None, None]  # (..., m, 1, 1)
        M = self.constant + theta.sin() * self.sine + theta.cos() * self.cosine  # (..., m, 4, 4)
        if self.linear is not None:
            M = M + theta * self.linear
        points = self.points_last.expand(*q.shape[:-1], *self.points_last.shape)  # (..., 4, K)
        for M_joint in reversed(M.unbind(-3)):
            points = M_joint @ points
        return points[..., :3, :].transpose(-1, -2)


def _joints_to(model: pin.Model, joint: int) -> list[int]:
    """Return the model's joints from its root to one joint, this included."""
    path = []
    while joint > 0:
        path.append(joint)
        joint = model.parents[joint]
    return path[::-1]


def _matrices(model: pin.Model, data: pin.Data, joint: int) -> np.ndarray:
    """Return the constant part of a joint's M and its factors of sin, cos and displacement, shape (4, 4, 4)."""
    kind, P = model.joints[joint], model.jointPlacements[joint].homogeneous
    linear, angular = np.split(np.ravel(data.joints[joint].S), [3])
    parts = np.zeros((4, 4, 4))
    if kind.nv == 1 and not linear.any():
        K = np.zeros((4, 4))
        K[:3, :3] = pin.skew(angular)
        parts[:3] = np.eye(4) + K @ K, K, -K @ K
    elif kind.nv == 1 and not angular.any():
        parts[0] = np.eye(4)
        parts[3, :3, 3] = linear
    else:
        name = model.names[joint]
        raise ChainError(f"joint {name!r} is {kind.shortname()}, expected a revolute or prismatic one")
    return P @ parts
