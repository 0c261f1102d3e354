"""A learned controller on disk: an artefact of modality ``policy`` with its forward model and its target motion."""

from pathlib import Path
from typing import Any

import numpy as np

from ideomotor.artefacts import Artefact, ArtefactError, load_artefact
from ideomotor.dynamics.rigid_body import DynamicsError, RigidBody, RobotStructure
from ideomotor.dynamics.rotations import rotation_matrix, to_world
from ideomotor.inference import SESSION_ERRORS, create_session, warm_up
from ideomotor.policies.goals import next_goal, observe
from ideomotor.policies.motion import Motion, MotionError

MODALITY = "policy"
POLICY, FORWARD_MODEL, MOTION = "policy.onnx", "forward_model.onnx", "motion.onnx"
_EXTRA: dict[str, tuple[type, ...]] = {
    "floating_base": (bool,),
    "contact_links": (list,),
    "rotor_inertia": (list,),
    "position_gain": (int, float),
    "semi_parametric": (bool,),
    "steps": (int,),
}


class LearnedController:
    """A loaded controller, bound to a robot. Owning one means that its contract was checked against the URDF."""

    def __init__(self, artefact: Artefact, body: RigidBody, provider: str) -> None:
        """Use `load`."""
        self.artefact, self.body, self.structure = artefact, body, body.structure
        manifest = artefact.manifest
        self.rate = manifest.rate
        self.position_gain = float(manifest.extra["position_gain"])
        self._semi_parametric = bool(manifest.extra["semi_parametric"])
        self._policy = create_session(artefact.path(POLICY), provider, threads=1)
        self._model = create_session(artefact.path(FORWARD_MODEL), provider, threads=1)
        for session in (self._policy, self._model):
            warm_up(session)
        self.motion = self._read_motion(int(manifest.extra["steps"]))
        self._limit = body.effort_limit

    @classmethod
    def load(cls, folder: Path | str, urdf: str, *, provider: str = "auto") -> "LearnedController":
        """Load an artefact of modality ``policy`` for a robot.

        Args:
            folder: of the artefact.
            urdf: of the robot that it shall drive.
            provider: ONNX Runtime's execution provider, or ``auto``.

        Raises:
            ArtefactError: if it is no policy, is damaged, or does not fit the robot.
            InferenceError: if it cannot run here.
        """
        artefact = load_artefact(folder, modality=MODALITY)
        structure = _structure(artefact)
        try:
            body = RigidBody(urdf, structure)
        except DynamicsError as error:
            raise ArtefactError(f"{artefact.folder}: the policy does not fit this robot: {error}") from error
        _check_shapes(artefact, body)
        return cls(artefact, body, provider)

    def effort(self, step: int | np.ndarray, q: np.ndarray, v: np.ndarray, force: np.ndarray) -> np.ndarray:
        """Return the efforts that take N robots from their states to the motion's next one, within the limits.

        Args:
            step: which state of the motion each robot stands at, or one for all.
            q: positions, shape (N, nq).
            v: velocities, shape (N, nv).
            force: of the contacts along the world axes, shape (N, 3c) [N].

        Returns:
            Shape (N, n) [N m] or [N]. NaN where a network gave NaN: the safety gate refuses it.
        """
        steps = np.broadcast_to(np.asarray(step), (len(q),))
        return self.effort_towards(*next_goal(self.motion, steps, q, self.position_gain), q, v, force)

    def effort_towards(
        self, wanted: np.ndarray, wanted_force: np.ndarray, q: np.ndarray, v: np.ndarray, force: np.ndarray
    ) -> np.ndarray:
        """Return the efforts (N, n) for a wanted next velocity (N, nv) and contact forces (N, 3c) in the base axes."""
        state = observe(q, v, force, floating_base=self.structure.floating_base)
        seen = np.concatenate([state, wanted - v, wanted_force], axis=-1).astype(np.float32)
        (effort,) = self._policy.run(["effort"], {"observation": seen})
        return np.clip(effort.astype(float), -self._limit, self._limit)

    def predict(
        self, q: np.ndarray, v: np.ndarray, force: np.ndarray, effort: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what the forward model expects one step later: velocities (N, nv), contact forces (N, 3c) [N].

        The velocity of a floating base is in the frame that it has now; the forces are along the world axes.
        """
        state = observe(q, v, force, floating_base=self.structure.floating_base)
        inputs = {"observation": state.astype(np.float32), "effort": effort.astype(np.float32)}
        outputs = [output.astype(float) for output in self._model.run(None, inputs)]
        velocity = v + outputs[0]
        if self._semi_parametric:
            free, per_effort = self.body.velocity_rate(q, v)
            velocity = velocity + (free + (per_effort @ effort[..., None])[..., 0]) / self.rate
        if not self.structure.contact_links:
            return velocity, np.zeros((len(q), 0))
        return velocity, to_world(rotation_matrix(q[:, 3:7]), outputs[1]) if self.structure.floating_base else outputs[
            1
        ]

    def _read_motion(self, steps: int) -> Motion:
        session = create_session(self.artefact.path(MOTION), "CPUExecutionProvider", threads=1)
        try:
            arrays = session.run(None, {"step": np.arange(steps + 1)})
        except SESSION_ERRORS as error:
            raise ArtefactError(f"{self.artefact.path(MOTION)}: it has no {steps + 1} states: {error}") from error
        q, v = (array.astype(float) for array in arrays[:2])
        force = arrays[2].astype(float) if self.structure.contact_links else np.zeros((len(q), 0))
        try:
            return Motion(self.rate, self.structure.joints, self.structure.contact_links, q, v, force)
        except MotionError as error:
            raise ArtefactError(f"{self.artefact.path(MOTION)}: no target motion: {error}") from error


def _structure(artefact: Artefact) -> RobotStructure:
    where, extra = artefact.folder / "manifest.json", artefact.manifest.extra
    for name, kinds in _EXTRA.items():
        found: Any = extra.get(name)
        if not isinstance(found, kinds) or (isinstance(found, bool) and kinds != (bool,)):
            raise ArtefactError(
                f"{where}: extra.{name} is {found!r}, expected {' or '.join(k.__name__ for k in kinds)}"
            )
    for name, kinds in (("contact_links", (str,)), ("rotor_inertia", (int, float))):
        if not all(isinstance(item, kinds) and not isinstance(item, bool) for item in extra[name]):
            raise ArtefactError(f"{where}: extra.{name} is {extra[name]!r}, expected a list of {kinds[-1].__name__}")
    if not 0.0 <= extra["position_gain"] < float("inf"):
        raise ArtefactError(f"{where}: extra.position_gain is {extra['position_gain']}, expected at least 0 [1/s]")
    if extra["steps"] < 1:
        raise ArtefactError(f"{where}: extra.steps is {extra['steps']}, expected at least 1")
    return RobotStructure(
        joints=artefact.manifest.joint_names,
        floating_base=extra["floating_base"],
        contact_links=tuple(extra["contact_links"]),
        rotor_inertia=tuple(extra["rotor_inertia"]),
    )


def _check_shapes(artefact: Artefact, body: RigidBody) -> None:
    """Raise ArtefactError where the models are not those of a controller of this robot."""
    s = body.structure
    forces = 3 * len(s.contact_links)
    state = body.n + body.nv + (4 + forces if s.floating_base else 0)
    expected = {
        POLICY: ({"observation": ("N", state + body.nv + forces)}, {"effort": ("N", body.n)}),
        FORWARD_MODEL: (
            {"observation": ("N", state), "effort": ("N", body.n)},
            {"velocity_change": ("N", body.nv)} | ({"force": ("N", forces)} if forces else {}),
        ),
        MOTION: (
            {"step": ("N",)},
            {"q": ("N", body.nq), "v": ("N", body.nv)} | ({"force": ("N", forces)} if forces else {}),
        ),
    }
    models = {m.file: m for m in artefact.manifest.models}
    if set(models) != set(expected):
        raise ArtefactError(f"{artefact.folder}: models are {sorted(models)}, expected {sorted(expected)}")
    for file, (inputs, outputs) in expected.items():
        for kind, wanted in (("inputs", inputs), ("outputs", outputs)):
            found = {t.name: t.shape for t in getattr(models[file], kind)}
            if found != wanted:
                raise ArtefactError(f"{artefact.folder / file}: {kind} are {found}, this robot needs {wanted}")
