r"""Rigid-body dynamics of a robot at effort level, batched, with derivatives.

.. math::
    M(q)\, \dot v + h(q, v) = S^\top \tau + \textstyle\sum_c J_c(q)^\top F_c

:math:`S` selects the joints; :math:`M` holds the rotors' inertia. What this nominal model does not know (payload,
friction, contacts unless their forces are given) is for a learned model to add.
"""

from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from ideomotor.errors import IdeomotorError


class DynamicsError(IdeomotorError):
    """A robot has no such dynamics, or states do not fit it."""


@dataclass(frozen=True, kw_only=True)
class RobotStructure:
    """A robot at effort level: what is needed besides its URDF."""

    joints: tuple[
        str, ...
    ]  # (n,) that are driven, in the order of efforts; all others are held at their neutral position
    floating_base: bool = False
    contact_links: tuple[str, ...] = ()  # (c,) links whose contact forces are part of the state
    rotor_inertia: tuple[float, ...] = ()  # (n,) seen through the gear [kg m^2]; empty: none


class RigidBody:
    """The nominal model of a robot.

    Args:
        urdf: of the robot.
        structure: which joints are driven, what it stands on.

    Raises:
        DynamicsError: the URDF has no such joint or link, a joint has more than one degree of freedom, or numbers do
            not fit the joints.
    """

    def __init__(self, urdf: str, structure: RobotStructure) -> None:
        self.structure = structure
        for field in ("joints", "contact_links"):
            names = getattr(structure, field)
            if len(set(names)) < len(names):
                raise DynamicsError(f"{field}={list(names)}, expected each once")
        try:
            root = [pin.JointModelFreeFlyer()] if structure.floating_base else []
            full = pin.buildModelFromXML(urdf, *root)
        except ValueError as error:
            raise DynamicsError(f"pinocchio cannot read the URDF: {error}") from error
        base = ["root_joint"] if structure.floating_base else []
        missing = [name for name in structure.joints if not full.existJointName(name)]
        if missing or not structure.joints:
            raise DynamicsError(f"joints={list(structure.joints)}: {missing} not in {list(full.names)[1:]}")
        held = [full.getJointId(name) for name in full.names[1:] if name not in (*structure.joints, *base)]
        self.model = pin.buildReducedModel(full, held, pin.neutral(full))
        self._data = self.model.createData()
        self.n, self.nq, self.nv = len(structure.joints), self.model.nq, self.model.nv
        self._frames = [self._frame(link) for link in structure.contact_links]
        self._set_rotors()
        self._arrange()

    @property
    def effort_limit(self) -> np.ndarray:
        """Largest effort of each joint, shape (n,) [N m] or [N]."""
        return np.array(self.model.upperEffortLimit[-self.n :][self._from_model])

    def acceleration(self, q: np.ndarray, v: np.ndarray, effort: np.ndarray) -> np.ndarray:
        """Return the accelerations of N states under their efforts, shape (N, nv)."""
        free, per_effort = self.affine_acceleration(q, v)
        return np.asarray(free + (per_effort @ effort[..., None])[..., 0])

    def affine_acceleration(self, q: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Return :math:`-M^{-1} h` and :math:`M^{-1} S^\top` of N states.

        The acceleration is affine in the effort, so the second is its exact derivative.

        Args:
            q: positions, shape (N, nq).
            v: velocities, shape (N, nv).

        Returns:
            Acceleration without effort, shape (N, nv), and its derivative by the effort, shape (N, nv, n).
        """
        count = self._check(q, v)
        mass, bias = np.empty((count, self.nv, self.nv)), np.empty((count, self.nv))
        mq, mv = q[:, self._q_to_model], v[:, self._v_to_model]
        for i in range(count):
            mass[i] = pin.crba(self.model, self._data, mq[i])
            bias[i] = pin.nonLinearEffects(self.model, self._data, mq[i], mv[i])
        upper = np.triu(mass)
        inverse = np.linalg.inv(upper + np.swapaxes(np.triu(mass, 1), -1, -2))
        inverse = inverse[:, self._v_from_model][:, :, self._v_from_model]
        free = -(inverse @ bias[:, self._v_from_model, None])[..., 0]
        return free, np.ascontiguousarray(inverse[:, :, self.nv - self.n :])

    def velocity_rate(self, q: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        r"""Return `affine_acceleration` as seen in the frame that the base has now, in which velocities are compared.

        The base's linear velocity is given in a frame that turns with :math:`\omega`, so that
        :math:`R_t^\top R_{t+1} v_{t+1} \approx v_t + h\,(\dot v + \omega \times v)`. Of a fixed base it is the same.
        """
        free, per_effort = self.affine_acceleration(q, v)
        if self.structure.floating_base:
            free[:, :3] += np.cross(v[:, 3:6], v[:, :3])
        return free, per_effort

    def acceleration_derivatives(
        self, q: np.ndarray, v: np.ndarray, effort: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the derivatives of `acceleration` of N states by q, v and effort.

        Returns:
            Shapes (N, nv, nv), (N, nv, nv) and (N, nv, n); that by q is by a displacement in the tangent space
            (of a floating base: translation and rotation in its own frame).
        """
        count = self._check(q, v)
        by_q, by_v = np.empty((count, self.nv, self.nv)), np.empty((count, self.nv, self.nv))
        mq, mv = q[:, self._q_to_model], v[:, self._v_to_model]
        generalised = np.zeros((count, self.nv))
        generalised[:, self.nv - self.n :] = effort
        for i in range(count):
            pin.computeABADerivatives(self.model, self._data, mq[i], mv[i], generalised[i, self._v_to_model])
            by_q[i], by_v[i] = self._data.ddq_dq, self._data.ddq_dv
        rows, columns = self._v_from_model[:, None], self._v_from_model[None, :]
        return by_q[:, rows, columns], by_v[:, rows, columns], self.affine_acceleration(q, v)[1]

    def bias(self, q: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return the Coriolis, centrifugal and gravity efforts of one state, shape (nv,), in the order of ``v``."""
        h = pin.nonLinearEffects(self.model, self._data, q[self._q_to_model], v[self._v_to_model])
        return np.array(h[self._v_from_model])

    def mass_matrix(self, q: np.ndarray) -> np.ndarray:
        """Return the inertia matrix of one configuration, shape (nv, nv), in the order of ``v``."""
        upper = np.triu(pin.crba(self.model, self._data, q[self._q_to_model]))
        mass = upper + np.triu(upper, 1).T
        return np.array(mass[self._v_from_model][:, self._v_from_model])

    def contact_jacobian(self, q: np.ndarray) -> np.ndarray:
        """Return the Jacobian of the contact links' origins, along the world axes, shape (3c, nv)."""
        pin.computeJointJacobians(self.model, self._data, q[self._q_to_model])
        pin.updateFramePlacements(self.model, self._data)
        axes = pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        rows = [pin.getFrameJacobian(self.model, self._data, f, axes)[:3] for f in self._frames]
        return np.concatenate([np.zeros((0, self.nv)), *rows])[:, self._v_from_model]

    def contact_positions(self, q: np.ndarray) -> np.ndarray:
        """Return the origins of the contact links in the world, shape (c, 3) [m]."""
        pin.framesForwardKinematics(self.model, self._data, q[self._q_to_model])
        return np.array([self._data.oMf[f].translation for f in self._frames]).reshape(-1, 3)

    def _check(self, q: np.ndarray, v: np.ndarray) -> int:
        if q.ndim != 2 or q.shape[1] != self.nq or v.shape != (len(q), self.nv):
            raise DynamicsError(f"q {q.shape}, v {v.shape}: expected (N, {self.nq}) and (N, {self.nv})")
        return len(q)

    def _frame(self, link: str) -> int:
        if not self.model.existFrame(link):
            raise DynamicsError(f"contact_links={list(self.structure.contact_links)}: the URDF has no link {link!r}")
        return int(self.model.getFrameId(link))

    def _set_rotors(self) -> None:
        rotors = self.structure.rotor_inertia
        if rotors and len(rotors) != self.n:
            raise DynamicsError(f"rotor_inertia has {len(rotors)} values, expected {self.n}, one a joint")
        if any(not np.isfinite(r) or r < 0.0 for r in rotors):
            raise DynamicsError(f"rotor_inertia={list(rotors)}, expected values of at least 0 [kg m^2]")
        for name, inertia in zip(self.structure.joints, rotors, strict=False):
            self.model.armature[self.model.joints[self.model.getJointId(name)].idx_v] = inertia

    def _arrange(self) -> None:
        """Find where the joints, in the order of ``structure.joints``, are in pinocchio's vectors."""
        joints = [self.model.joints[self.model.getJointId(name)] for name in self.structure.joints]
        broad = [n for n, j in zip(self.structure.joints, joints, strict=True) if (j.nq, j.nv) != (1, 1)]
        if broad:
            raise DynamicsError(
                f"joints {broad} are continuous or have several degrees of freedom, expected limited ones"
            )
        base_q, base_v = (7, 6) if self.structure.floating_base else (0, 0)
        q_from = [*range(base_q), *(j.idx_q for j in joints)]
        v_from = [*range(base_v), *(j.idx_v for j in joints)]
        self._v_from_model = np.array(v_from)
        self._q_to_model, self._v_to_model = np.argsort(q_from), np.argsort(v_from)
        self._from_model = np.array([j.idx_v for j in joints]) - base_v
