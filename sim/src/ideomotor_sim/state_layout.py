r"""State and effort of a robot as arrays, in the order of its joints.

.. math::
    q &= (x, y, z,\; q_x, q_y, q_z, q_w,\; \text{joints}) & &\text{[m], [], [rad]} \\
    v &= ({}^B v,\; {}^B\omega,\; \text{joint velocities}) & &\text{[m/s], [rad/s], [rad/s]} \\
    f &= (f_1, f_2, \dots)  & &\text{[N]}

The first two parts of :math:`q` and :math:`v` are a floating base's: its pose in the world frame, and its linear and
angular velocity in its own frame (pinocchio's order, and the twist of nav_msgs/Odometry). :math:`f_i`, three numbers in
world axes, is the force of the floor on the i-th contact link.
"""

from collections.abc import Mapping

import mujoco
import numpy as np

from ideomotor_sim.actuation import Joint
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.ground import FORCE_SENSOR

_XYZW, _WXYZ = [1, 2, 3, 0], [3, 0, 1, 2]
_PRECISION = 1e-3  # how far a quaternion's norm may be from one


class StateLayout:
    """Where the numbers of a robot's state are in MuJoCo's.

    Args:
        model: the compiled world.
        joints: its actuated joints, by name.
        order: names of the joints in q, v and effort.
        root: name of the floating base's link, or None.
        contact_links: links whose contact force is sensed.

    Raises:
        SimulationError: for an unknown, repeated or mimicking joint.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        joints: Mapping[str, Joint],
        order: tuple[str, ...],
        root: str | None,
        contact_links: tuple[str, ...],
    ) -> None:
        known = [name for name, joint in joints.items() if joint.mimic is None]
        if len(set(order)) != len(order) or not set(order) <= set(known):
            raise SimulationError(f"joints {list(order)}, expected names out of {known}, each once")
        self.joints, self.contact_links, self.floating_base = order, contact_links, root is not None
        self._qpos = [joints[name].qpos for name in order]
        self._dof = [joints[name].dof for name in order]
        self.actuators = np.array([joints[name].actuator for name in order], dtype=int)  # (n,)
        limited = model.jnt_actfrclimited[model.dof_jntid[self._dof]].astype(bool)
        ranges = model.jnt_actfrcrange[model.dof_jntid[self._dof]]
        self.effort_limit = np.where(limited, ranges[:, 1], np.inf)  # (n,) [N m] or [N]
        self._base_q, self._base_v = (0, 0)
        if root is not None:
            base = model.joint(root)
            self._base_q, self._base_v = int(base.qposadr[0]), int(base.dofadr[0])
        self._sensors = [
            address + i
            for link in contact_links
            for address in [int(model.sensor(FORCE_SENSOR + link).adr[0])]
            for i in range(3)
        ]
        self.n, self.nforce = len(order), len(self._sensors)
        self.nq, self.nv = self.n + 7 * self.floating_base, self.n + 6 * self.floating_base

    def read(self, qpos: np.ndarray, qvel: np.ndarray, sensors: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return q (K, nq), v (K, nv) and force (K, 3 nc) from MuJoCo's arrays of K robots, a row each."""
        q, v = qpos[:, self._qpos], qvel[:, self._dof]
        if self.floating_base:
            a, b = self._base_q, self._base_v
            quaternion = qpos[:, a + 3 : a + 7][:, _XYZW]
            linear = rotate_inverse(quaternion, qvel[:, b : b + 3])
            q = np.concatenate([qpos[:, a : a + 3], quaternion, q], axis=1)
            v = np.concatenate([linear, qvel[:, b + 3 : b + 6], v], axis=1)
        return q, v, sensors[:, self._sensors]

    def write(self, data: mujoco.MjData, q: np.ndarray, v: np.ndarray) -> None:
        """Put one state, q (nq,) and v (nv,), into MuJoCo's data; what it implies is not computed.

        Raises:
            SimulationError: for a wrong shape, a number that is not finite, or a quaternion that is not of norm one.
        """
        q, v = self._checked("q", q, self.nq), self._checked("v", v, self.nv)
        if self.floating_base:
            norm = float(np.linalg.norm(q[3:7]))
            if abs(norm - 1.0) > _PRECISION:
                raise SimulationError(
                    f"q[3:7]={q[3:7].tolist()} of norm {norm:.4f}, expected a unit quaternion x y z w"
                )
            quaternion = q[3:7] / norm
            a, b = self._base_q, self._base_v
            data.qpos[a : a + 3], data.qpos[a + 3 : a + 7] = q[:3], quaternion[_WXYZ]
            opposite = quaternion * np.array([-1.0, -1.0, -1.0, 1.0])
            data.qvel[b : b + 3] = rotate_inverse(opposite[None], v[None, :3])[0]
            data.qvel[b + 3 : b + 6] = v[3:6]
        data.qpos[self._qpos], data.qvel[self._dof] = q[self.nq - self.n :], v[self.nv - self.n :]

    def effort(self, effort: np.ndarray) -> np.ndarray:
        """Return efforts (n,) or (K, n) as the motors would give them: at most the URDF's limits.

        Raises:
            SimulationError: for a wrong shape or a number that is not finite.
        """
        effort = np.asarray(effort, dtype=float)
        if effort.shape[-1:] != (self.n,):
            raise SimulationError(f"effort has shape {effort.shape}, expected (..., {self.n})")
        if not np.isfinite(effort).all():
            bad = np.argwhere(~np.isfinite(effort))[0]
            raise SimulationError(
                f"effort of joint {self.joints[bad[-1]]!r}: {effort[tuple(bad)]}, expected a finite number"
            )
        return np.clip(effort, -self.effort_limit, self.effort_limit)

    @staticmethod
    def _checked(name: str, numbers: np.ndarray, size: int) -> np.ndarray:
        numbers = np.asarray(numbers, dtype=float)
        if numbers.shape != (size,) or not np.isfinite(numbers).all():
            raise SimulationError(f"{name}={numbers.tolist()}, expected {size} finite numbers")
        return numbers


def rotate_inverse(quaternion: np.ndarray, vector: np.ndarray) -> np.ndarray:
    """Return R^T vector for rotations as unit quaternions x y z w; shapes (K, 4) and (K, 3), result (K, 3)."""
    x, y, z, w = quaternion.T
    a, b, c = vector.T
    # t = 2 u x vector; R^T vector = vector - w t + u x t
    tx, ty, tz = 2.0 * (y * c - z * b), 2.0 * (z * a - x * c), 2.0 * (x * b - y * a)
    return np.stack([a - w * tx + y * tz - z * ty, b - w * ty + z * tx - x * tz, c - w * tz + x * ty - y * tx], axis=-1)


def check_physics(data: mujoco.MjData) -> None:
    """Raise if MuJoCo has lost the state.

    Raises:
        SimulationError: if positions, velocities or accelerations left all bounds: MuJoCo starts from nothing then.
    """
    for what in ("BADQPOS", "BADQVEL", "BADQACC"):
        warning = data.warning[getattr(mujoco.mjtWarning, f"mjWARN_{what}")]
        if warning.number:
            raise SimulationError(f"the physics diverged (MuJoCo: {what} at degree of freedom {warning.lastinfo})")
