"""What efforts act against: a free base, a floor for feet, a payload, friction in the joints.

Only the collision shapes of the contact links touch the floor, and those of a free base, so that a fallen robot lies on
it; knees and shins go through. The floor is a plane at z = 0 of the world frame.
"""

import mujoco
import numpy as np

from ideomotor_sim.camera import HIDDEN_GROUP
from ideomotor_sim.errors import SimulationError

GROUND_CONTACT = 4  # bit of MuJoCo's contype and conaffinity; dropped and held tools have others
FORCE_SENSOR = "ground_force/"  # and the contact link: force of the floor on it
_FORCE_ONLY, _NET_FORCE = 1 << mujoco.mjtConDataField.mjCONDATA_FORCE.value, 3
_STICTION = [0.99, 0.999, 0.001, 0.5, 2.0]
_STEEL = 7850.0  # [kg/m^3]


def add_floating_base(spec: mujoco.MjSpec, root: str) -> None:
    """Let the root link move freely.

    Raises:
        SimulationError: if it is a massless link named ``world``, which MuJoCo takes for its own.
    """
    if root == "world":
        raise SimulationError("floating_base: the URDF's root link is 'world', expected the robot's base")
    spec.body(root).add_freejoint(name=root)


def add_ground(spec: mujoco.MjSpec, links: tuple[str, ...], sensed: tuple[str, ...], friction: float) -> None:
    """Add the floor, and sensors of its force on links; let the collision shapes of ``links`` touch it.

    Args:
        spec: from `robot_spec(robot, links)`.
        links: what touches the floor.
        sensed: those of them whose contact force is sensed.
        friction: Coulomb's coefficient of every contact.

    Raises:
        SimulationError: for a link without collision shape.
    """
    cone = [friction, 0.005, 0.0001]
    for link in links:
        body = spec.body(link)
        solid = [] if body is None else [geom for geom in body.geoms if geom.contype == GROUND_CONTACT]
        if not solid:
            raise SimulationError(f"contact link {link!r}: no such link, or none with a readable collision shape")
        for geom in solid:
            geom.friction, geom.condim = cone, 3
    spec.option.cone, spec.option.impratio = mujoco.mjtCone.mjCONE_ELLIPTIC, 10.0  # feet that stick do not creep
    spec.worldbody.add_geom(
        name="ground",
        type=mujoco.mjtGeom.mjGEOM_PLANE,
        size=[0.0, 0.0, 1.0],  # without end
        contype=0,
        conaffinity=GROUND_CONTACT,
        friction=cone,
        condim=3,
        group=HIDDEN_GROUP,
    )
    for link in sensed:
        spec.add_sensor(
            name=FORCE_SENSOR + link,
            type=mujoco.mjtSensor.mjSENS_CONTACT,
            objtype=mujoco.mjtObj.mjOBJ_GEOM,
            objname="ground",
            reftype=mujoco.mjtObj.mjOBJ_BODY,
            refname=link,
            intprm=[_FORCE_ONLY, _NET_FORCE, 1],
        )


def add_payload(spec: mujoco.MjSpec, link: str, mass: float, position: tuple[float, float, float]) -> None:
    """Fix a steel ball to a link, in the link's frame [m]; it touches nothing."""
    body = (spec.body(link) or spec.worldbody).add_body(name="payload", pos=position)
    radius = float(np.cbrt(3.0 * mass / (4.0 * np.pi * _STEEL)))
    body.add_geom(
        name="payload",
        type=mujoco.mjtGeom.mjGEOM_SPHERE,
        size=[radius, 0.0, 0.0],
        mass=mass,
        rgba=[0.3, 0.3, 0.35, 1.0],
        contype=0,
        conaffinity=0,
    )


def add_joint_losses(spec: mujoco.MjSpec, friction: float, damping: float) -> None:
    """Add dry friction [N m] and damping [N m s/rad] to every actuated joint, beside what the URDF says."""
    for joint in _actuated(spec):
        joint.frictionloss += friction
        if friction > 0.0:  # MuJoCo's own lets a joint creep at 0.1 rad/s below the friction
            joint.solref_friction, joint.solimp_friction = [4.0 * spec.option.timestep, 1.0], _STICTION
        joint.damping = [joint.damping[0] + damping, *joint.damping[1:]]


def set_rotor_inertia(spec: mujoco.MjSpec, joints: tuple[str, ...], inertia: tuple[float, ...]) -> None:
    """Replace the reflected inertia of every actuated joint [kg m^2].

    Args:
        spec: with actuators.
        joints: order of ``inertia``; empty: the robot's.
        inertia: one value a joint, positive.

    Raises:
        SimulationError: if they do not match the joints.
    """
    names = joints or tuple(joint.name for joint in _actuated(spec))
    if len(names) != len(inertia) or not all(0.0 < value < np.inf for value in inertia):
        raise SimulationError(f"rotor_inertia {list(inertia)}, expected a positive number for each of {list(names)}")
    for name, value in zip(names, inertia, strict=True):
        joint = spec.joint(name)
        if joint is None:
            raise SimulationError(f"rotor_inertia: unknown joint {name!r}")
        joint.armature = value


def stand(model: mujoco.MjModel, data: mujoco.MjData, base: str) -> None:
    """Lift a floating base, the free joint ``base``, so that its lowest contact shape rests on the floor."""
    lowest = []
    for i in np.flatnonzero(model.geom_contype & GROUND_CONTACT):
        R = data.geom_xmat[i].reshape(3, 3)
        centre, half = model.geom_aabb[i, :3], model.geom_aabb[i, 3:]
        round_shape = model.geom_type[i] == mujoco.mjtGeom.mjGEOM_SPHERE
        extent = model.geom_rbound[i] if round_shape else np.abs(R[2]) @ half
        lowest.append(data.geom_xpos[i, 2] + R[2] @ centre - extent)
    data.joint(base).qpos[2] -= float(min(lowest))
    mujoco.mj_forward(model, data)


def _actuated(spec: mujoco.MjSpec) -> list[mujoco.MjsJoint]:
    return [spec.joint(actuator.target) for actuator in spec.actuators]
