"""Actuators as the controllers of ros2_control offer them: position, velocity or effort commands, by joint name."""

from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree import ElementTree as ET

import mujoco
import numpy as np

ROTOR_INERTIA = 1e-3  # [kg m^2] seen through the gear, for each N m of the torque limit: a typical geared arm


@dataclass(frozen=True)
class Joint:
    """Addresses of one robot joint in the compiled model."""

    qpos: int
    dof: int
    actuator: int
    lower: float
    upper: float
    mimic: tuple[str, float, float] | None  # source joint, multiplier, offset


def add_actuators(spec: mujoco.MjSpec, urdf: str, *, compensated: bool) -> None:
    """Add one actuator per joint; the torque limit holds for the sum of control and gravity compensation."""
    efforts = {
        joint.get("name"): float(limit.get("effort", "0"))
        for joint in ET.fromstring(urdf).iter("joint")
        if (limit := joint.find("limit")) is not None
    }
    for joint in spec.joints:
        effort = efforts.get(joint.name, 0.0)
        if effort > 0.0:
            joint.actfrcrange, joint.actfrclimited = [-effort, effort], 1
        joint.actgravcomp = compensated
        joint.armature = max(joint.armature, ROTOR_INERTIA * max(effort, 1.0))
        spec.add_actuator(
            name=joint.name,
            target=joint.name,
            trntype=mujoco.mjtTrn.mjTRN_JOINT,
            gaintype=mujoco.mjtGain.mjGAIN_FIXED,
            biastype=mujoco.mjtBias.mjBIAS_AFFINE,
        )


def robot_joints(model: mujoco.MjModel, urdf: str) -> dict[str, Joint]:
    """Return the joints that have an actuator, by name."""
    mimics = {
        joint.get("name"): (
            mimic.get("joint", ""),
            float(mimic.get("multiplier", "1")),
            float(mimic.get("offset", "0")),
        )
        for joint in ET.fromstring(urdf).iter("joint")
        if (mimic := joint.find("mimic")) is not None
    }
    joints = {}
    for i in range(model.nu):
        joint = model.jnt(model.actuator(i).name)
        lower, upper = joint.range if model.jnt_limited[joint.id] else (-np.pi, np.pi)
        joints[joint.name] = Joint(
            int(joint.qposadr[0]), int(joint.dofadr[0]), i, float(lower), float(upper), mimics.get(joint.name)
        )
    return joints


def tune_actuators(model: mujoco.MjModel, joints: Mapping[str, Joint], actuation: str, bandwidth: float) -> None:
    r"""Set the gains from the joint-space inertia.

    .. math::
        u &= k_p (q^* - q) - k_v \dot q \quad\text{(position)} \\
        u &= k_v (\dot q^* - \dot q) + b \dot q^* \quad\text{(velocity; b: the joint's own damping)} \\
        k_p &= \bar M_{ii} \omega^2, \quad k_v = 2 \bar M_{ii} \omega

    with :math:`\bar M_{ii}` the largest of the inertia matrix's diagonal over random configurations.
    """
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    dofs = [j.dof for j in joints.values()]
    inertia = np.zeros(len(dofs))
    for _ in range(16):
        for joint in joints.values():
            data.qpos[joint.qpos] = rng.uniform(joint.lower, joint.upper)
        mujoco.mj_forward(model, data)
        inertia = np.maximum(inertia, [_inertia(model, data, dof) for dof in dofs])
    for joint, m in zip(joints.values(), inertia.tolist(), strict=True):
        a, w = joint.actuator, bandwidth
        gain, bias = 1.0, (0.0, 0.0, 0.0)
        if actuation == "position":
            gain, bias = m * w * w, (0.0, -m * w * w, -2.0 * m * w)
            model.actuator_ctrllimited[a], model.actuator_ctrlrange[a] = 1, (joint.lower, joint.upper)
        elif actuation == "velocity":
            damping = float(model.dof_damping[joint.dof])
            gain, bias = 2.0 * m * w + damping, (0.0, 0.0, -2.0 * m * w)
        model.actuator_gainprm[a, 0], model.actuator_biasprm[a, :3] = gain, bias


def _inertia(model: mujoco.MjModel, data: mujoco.MjData, dof: int) -> float:
    """Return the inertia matrix's diagonal element of a degree of freedom."""
    unit, column = np.zeros(model.nv), np.zeros(model.nv)
    unit[dof] = 1.0
    mujoco.mj_mulM(model, data, column, unit)
    return float(column[dof])
