r"""Kinematic chain of a URDF, from a base link to an end-effector link, over pinocchio.

.. math::
    {}^{base}T_{link}(q) = {}^{base}T_{root} \, {}^{root}T_{link}(q), \qquad
    {}^{base}J_{link}(q) = \mathrm{blkdiag}({}^{base}R_{root}, {}^{base}R_{root}) \, {}^{root}J_{link}(q)

``q`` holds one angle [rad] or displacement [m] per joint, in chain order; how pinocchio stores joints
without limits (cosine and sine) and mimic joints stay inside.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pinocchio as pin

from ideomotor.body import chain_model
from ideomotor.body.chain_model import ChainError as ChainError
from ideomotor.body.extension import BodyExtension, ExtensionError, JointType
from ideomotor.body.urdf import parse_urdf, root_link


@dataclass(frozen=True, eq=False)
class KinematicChain:
    """Joints between ``base_link`` and ``ee_link``; immutable, make it with `from_urdf` or `extended`.

    Joints of the robot outside the chain are locked. A mimic joint follows its source, which stands in
    ``joint_names`` for it. One instance serves one thread: it holds pinocchio's work space.
    """

    base_link: str
    ee_link: str
    joint_names: tuple[str, ...]  # (n,) in chain order; virtual joints last
    actuated_names: tuple[str, ...]  # those of joint_names that a motor moves
    lower: np.ndarray  # (n,) [rad] or [m]; -inf for a continuous joint
    upper: np.ndarray  # (n,) [rad] or [m]; inf for a continuous joint
    velocity_limit: np.ndarray  # (n,) [rad/s] or [m/s]
    effort_limit: np.ndarray  # (n,) [N m] or [N]
    model: pin.Model  # the moving joints only; do not change it
    coupling: np.ndarray  # (model.nv, n) joint motion of the model by joint motion of the chain; identity without mimic
    offset: np.ndarray  # (model.nv,) of mimic joints [rad] or [m]
    frame_ids: Mapping[str, int]  # of every link of the robot, in model
    _data: pin.Data = field(init=False, repr=False)
    _T_base_root: pin.SE3 = field(init=False, repr=False)

    def __post_init__(self) -> None:
        for name in ("lower", "upper", "velocity_limit", "effort_limit", "coupling", "offset"):
            array = np.array(getattr(self, name), dtype=float)
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "_data", self.model.createData())
        # Every joint above the base is locked, so any configuration gives the same base pose.
        pin.forwardKinematics(self.model, self._data, pin.neutral(self.model))
        base = pin.updateFramePlacement(self.model, self._data, self._frame_id(self.base_link))
        object.__setattr__(self, "_T_base_root", base.inverse())

    @classmethod
    def from_urdf(
        cls,
        urdf: str,
        *,
        ee_link: str,
        base_link: str | None = None,
        locked: Mapping[str, float] | None = None,
        passive: Collection[str] = (),
    ) -> "KinematicChain":
        """Build the chain from URDF text; meshes are not read.

        Args:
            urdf: URDF text.
            ee_link: last link of the chain.
            base_link: first link, an ancestor of ``ee_link``; the root link if None.
            locked: positions of joints outside the chain [rad] or [m]; the others are locked at 0.
            passive: joints of the chain that no motor moves (movable virtual joints).

        Raises:
            UrdfError: the URDF is malformed.
            ChainError: a link or joint does not exist, or does not lie between base and end effector.
        """
        robot = parse_urdf(urdf)
        base_link = root_link(robot) if base_link is None else base_link
        path = [j for j in chain_model.joints_between(robot, base_link, ee_link) if j.get("type") != "fixed"]
        coupling, offset, columns = chain_model.mimic_coupling(robot, path)
        chain_model.check_members(passive, columns, "passive")
        full = chain_model.full_model(urdf)
        model = chain_model.without_others(full, [chain_model.name_of(j) for j in path], locked or {})
        bounds = [chain_model.joint_limits(full, name) for name in columns]  # n x (lower, upper, velocity, effort)
        lower, upper, velocity, effort = np.array(bounds).reshape(-1, 4).T
        return cls(
            base_link=base_link,
            ee_link=ee_link,
            joint_names=tuple(columns),
            actuated_names=tuple(name for name in columns if name not in passive),
            lower=lower,
            upper=upper,
            velocity_limit=velocity,
            effort_limit=effort,
            model=model,
            coupling=coupling,
            offset=offset,
            frame_ids={f.name: i for i, f in enumerate(model.frames) if f.type == pin.FrameType.BODY},
        )

    def extended(self, extension: BodyExtension) -> "KinematicChain":
        """Return this chain continued through ``extension``, ending at its tip; without going through URDF.

        Every movable virtual joint is appended to ``joint_names``, also one that does not lead to the tip.

        Raises:
            ExtensionError: the extension's links do not fit this chain.
        """
        if extension.ee_link not in self.frame_ids:
            raise ExtensionError(f"ee_link={extension.ee_link!r} is not among the links {list(self.link_names)}")
        model = pin.Model(self.model)
        frame_ids = dict(self.frame_ids)
        for joint in extension.joints:
            if joint.child_link in frame_ids or model.existJointName(joint.name):
                raise ExtensionError(f"{joint.name}: the joint or its child {joint.child_link!r} exists already")
            frame_ids[joint.child_link] = chain_model.add_virtual_joint(model, joint, frame_ids[joint.parent_link])
        movable = [j for j in extension.joints if j.type is not JointType.FIXED]
        n_old, n_new = len(self.joint_names), len(movable)
        coupling = np.zeros((self.coupling.shape[0] + n_new, n_old + n_new))
        coupling[: self.coupling.shape[0], :n_old] = self.coupling
        coupling[self.coupling.shape[0] :, n_old:] = np.eye(n_new)
        passive = np.zeros(n_new)
        return KinematicChain(
            base_link=self.base_link,
            ee_link=extension.tip_link,
            joint_names=(*self.joint_names, *(j.name for j in movable)),
            actuated_names=self.actuated_names,
            lower=np.append(self.lower, [j.lower for j in movable]),
            upper=np.append(self.upper, [j.upper for j in movable]),
            velocity_limit=np.append(self.velocity_limit, passive),
            effort_limit=np.append(self.effort_limit, passive),
            model=model,
            coupling=coupling,
            offset=np.append(self.offset, passive),
            frame_ids=frame_ids,
        )

    @property
    def n(self) -> int:
        """Number of joints."""
        return len(self.joint_names)

    @property
    def link_names(self) -> tuple[str, ...]:
        """Every link that ``forward`` and ``jacobian`` know."""
        return tuple(self.frame_ids)

    @property
    def neutral(self) -> np.ndarray:
        """Zero, or the limit nearest to it, shape (n,) [rad] or [m]."""
        return np.clip(np.zeros(self.n), self.lower, self.upper)

    @property
    def mid(self) -> np.ndarray:
        """Middle of the limits, shape (n,) [rad] or [m]; 0 for a continuous joint."""
        lower, upper = self._finite_range
        middle: np.ndarray = (lower + upper) / 2
        return middle

    def random(self, rng: np.random.Generator, margin: float = 0.1) -> np.ndarray:
        """Return a uniform random configuration, shape (n,) [rad] or [m].

        Args:
            rng: source of randomness.
            margin: share of each joint's range left free at either end, 0 to 0.5.

        Raises:
            ChainError: ``margin`` is outside 0 to 0.5.
        """
        if not 0.0 <= margin <= 0.5:
            raise ChainError(f"margin={margin}, expected 0 to 0.5 of the range")
        lower, upper = self._finite_range
        q: np.ndarray = self.mid + (0.5 - margin) * (upper - lower) * rng.uniform(-1.0, 1.0, self.n)
        return q

    def from_names(self, positions: Mapping[str, float]) -> np.ndarray:
        """Return ``q``, shape (n,), from positions by joint name [rad] or [m]; other names are ignored.

        Raises:
            ChainError: a joint of the chain is missing or its position is not finite.
        """
        missing = [name for name in self.joint_names if name not in positions]
        if missing:
            raise ChainError(f"no position for joints {missing}; there are {sorted(positions)}")
        return self._checked(np.array([positions[name] for name in self.joint_names], dtype=float), (self.n,))

    def forward(self, q: np.ndarray, link: str | None = None) -> np.ndarray:
        """Return ``T_base_link``, shape (4, 4) [m].

        Args:
            q: joint positions, shape (n,) [rad] or [m].
            link: any link of the robot; ``ee_link`` if None.

        Raises:
            ChainError: unknown link, or ``q`` of another shape or not finite.
        """
        frame_id = self._frame_id(link)
        pin.forwardKinematics(self.model, self._data, self.configuration(q))
        T_root_link = pin.updateFramePlacement(self.model, self._data, frame_id)
        T_base_link: np.ndarray = (self._T_base_root * T_root_link).homogeneous
        return T_base_link

    def forward_batch(self, q: np.ndarray, link: str | None = None) -> np.ndarray:
        """Return ``T_base_link`` of T configurations, shape (T, 4, 4) [m]; ``q`` has shape (T, n).

        Raises:
            ChainError: unknown link, or ``q`` of another shape or not finite.
        """
        model, data, frame_id = self.model, self._data, self._frame_id(link)
        q = np.asarray(q, dtype=float)
        configurations = self._configurations(self._checked(q, (*q.shape[:1], self.n)))
        T_root_link = np.empty((len(configurations), 4, 4))
        for t, configuration in enumerate(configurations):
            pin.forwardKinematics(model, data, configuration)
            T_root_link[t] = pin.updateFramePlacement(model, data, frame_id).homogeneous
        T_base_link: np.ndarray = self._T_base_root.homogeneous @ T_root_link
        return T_base_link

    def jacobian_batch(self, q: np.ndarray, link: str | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return ``T_base_link``, shape (T, 4, 4) [m], and `jacobian`, shape (T, 6, n), of T configurations (T, n).

        Raises:
            ChainError: unknown link, or ``q`` of another shape or not finite.
        """
        model, data, frame_id = self.model, self._data, self._frame_id(link)
        q = np.asarray(q, dtype=float)
        configurations = self._configurations(self._checked(q, (*q.shape[:1], self.n)))
        T_root_link, J_root = np.empty((len(q), 4, 4)), np.empty((len(q), 6, model.nv))
        for t, configuration in enumerate(configurations):
            J_root[t] = pin.computeFrameJacobian(
                model, data, configuration, frame_id, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
            )
            T_root_link[t] = pin.updateFramePlacement(model, data, frame_id).homogeneous
        J = J_root if self._plain else J_root @ self.coupling  # (T, 6, n)
        R = self._T_base_root.rotation
        return self._T_base_root.homogeneous @ T_root_link, (R @ J.reshape(-1, 2, 3, self.n)).reshape(J.shape)

    def jacobian(self, q: np.ndarray, link: str | None = None) -> np.ndarray:
        """Return the Jacobian of the link origin, rows (linear, angular) along the base axes, shape (6, n).

        Args:
            q: joint positions, shape (n,) [rad] or [m].
            link: any link of the robot; ``ee_link`` if None.

        Raises:
            ChainError: unknown link, or ``q`` of another shape or not finite.
        """
        frame_id = self._frame_id(link)
        J_root = pin.computeFrameJacobian(
            self.model, self._data, self.configuration(q), frame_id, pin.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )  # (6, model.nv)
        R_base_root = self._T_base_root.rotation
        J_base = np.vstack([R_base_root @ J_root[:3], R_base_root @ J_root[3:]])  # (6, model.nv)
        J: np.ndarray = J_base @ self.coupling  # (6, n)
        return J

    def configuration(self, q: np.ndarray) -> np.ndarray:
        """Return ``q`` as pinocchio's configuration vector of ``model``, shape (model.nq,).

        Raises:
            ChainError: ``q`` has another shape or is not finite.
        """
        q = self._checked(np.asarray(q, dtype=float), (self.n,))
        configuration: np.ndarray = self._configurations(q[None])[0]
        return configuration

    def _configurations(self, q: np.ndarray) -> np.ndarray:
        """(T, n) -> (T, model.nq); joints without limits become (cos, sin)."""
        position = q if self._plain else q @ self.coupling.T + self.offset  # (T, model.nv)
        if self.model.nq == self.model.nv:
            return position
        configuration = np.empty((len(q), self.model.nq))
        for joint in list(self.model.joints)[1:]:
            angle = position[:, joint.idx_v]
            configuration[:, joint.idx_q] = angle if joint.nq == 1 else np.cos(angle)
            if joint.nq == 2:
                configuration[:, joint.idx_q + 1] = np.sin(angle)
        return configuration

    @cached_property
    def _plain(self) -> bool:
        """Whether there is no mimic joint."""
        return bool(np.array_equal(self.coupling, np.eye(self.model.nv, self.n)))

    @property
    def _finite_range(self) -> tuple[np.ndarray, np.ndarray]:
        """Limits, with one turn around 0 for continuous joints."""
        return np.where(np.isfinite(self.lower), self.lower, -np.pi), np.where(
            np.isfinite(self.upper), self.upper, np.pi
        )

    def _checked(self, q: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if q.shape != shape:
            raise ChainError(f"q has shape {q.shape}, expected {shape} for the joints {list(self.joint_names)}")
        if not np.isfinite(q).all():
            bad = sorted({self.joint_names[i] for i in np.nonzero(~np.isfinite(q))[-1]})
            raise ChainError(f"q is not finite at {bad}: {q.tolist()}")
        return q

    def _frame_id(self, link: str | None) -> int:
        try:
            return self.frame_ids[self.ee_link if link is None else link]
        except KeyError:
            raise ChainError(f"link {link!r} is not among {list(self.link_names)}") from None
