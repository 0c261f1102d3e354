"""Slips over ROS: how soon body_schema says so, how good the tip is one second later, how often it is wrong.

The arm keeps waving through the safety gate. At an unannounced moment the simulator moves the object in the gripper by
20 to 60 mm and turns it by 30 degrees. Detection is the arrival of the node's own SLIPPED or DROPPED message, in
simulated time; the recovered tip is the newest one on /tf one second after that, or, when nothing was said, when the
time for it was over. Without an extension the end-effector link counts as the tip.
"""

import sys

import numpy as np
from geometry_msgs.msg import Pose
from scipy.spatial.transform import Rotation
from sensor_msgs.msg import JointState as JointStateMsg
from tf2_msgs.msg import TFMessage
from trajectory_msgs.msg import JointTrajectory

from benchmarks.body_schema.cases import Options
from benchmarks.body_schema.stack import running_stack
from benchmarks.runner import Cases
from ideomotor.body.chain import KinematicChain
from ideomotor.body.excitation import ExcitationConfig, Trajectory, excitation_trajectory
from ideomotor_interfaces.msg import BodySchema
from ideomotor_interfaces.srv import DisplaceObject
from ideomotor_nodes import convert
from ideomotor_nodes.client import BodySchemaClient, ClientError
from ideomotor_nodes.qos import COMMAND, TF

QUIET_TIME = 20.0  # [s] without a slip, per seed
SLIPS = 3  # per seed
SLIP_DISTANCE = (0.02, 0.06)  # [m]
SLIP_ANGLE = np.deg2rad(30.0)
DETECTION_TIMEOUT = 5.0  # [s] a slip not found by then is missed
RECOVERY_TIME = 1.0  # [s] after detection
TIP_FRAME = "body_schema_tip"


class WavingClient(BodySchemaClient):
    """Waves the arm in simulated time, and keeps what the body schema says."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.time = 0.0  # newest stamp of the joint states [s]
        self.alarms: list[float] = []  # times at which the state became SLIPPED or DROPPED [s]
        self.tips: list[tuple[float, np.ndarray]] = []  # (stamp, position in the ee frame)
        self._state = BodySchema.NOMINAL
        self._wave: tuple[KinematicChain, Trajectory, float] | None = None
        self._commands = self.create_publisher(JointTrajectory, "joint_command", COMMAND)
        self.displace = self.create_client(DisplaceObject, "sim/displace_object")
        self.create_subscription(TFMessage, "/tf", self._on_tf, TF)

    def wave(self, chain: KinematicChain, rng: np.random.Generator, duration: float) -> None:
        """Begin to wave around the present configuration, for ``duration`` [s]."""
        q = self.joint_states.latest(chain.joint_names)
        trajectory = excitation_trajectory(chain, q, rng, ExcitationConfig(duration=duration))
        self._wave = (chain, trajectory, self.time)

    def run_until(self, time: float) -> None:
        """Spin until the joint states have reached ``time`` [s]."""
        self.wait_for(lambda: self.time >= time, f"joint states of {time:.1f} s", 10.0 + 20.0 * (time - self.time))

    def _on_joint_state(self, msg: JointStateMsg) -> None:
        super()._on_joint_state(msg)
        self.time = max(self.time, convert.seconds(msg.header.stamp))
        if self._wave is not None:
            chain, trajectory, start = self._wave
            elapsed = self.time - start
            if elapsed > trajectory.time[-1]:
                self._wave = None
                return
            command = convert.joint_command_msg(chain.joint_names, trajectory.at(elapsed), msg.header.stamp)
            self._commands.publish(command)

    def _on_schema(self, msg: BodySchema) -> None:
        super()._on_schema(msg)
        alarm = (BodySchema.SLIPPED, BodySchema.DROPPED)
        if msg.state in alarm and self._state not in alarm:
            self.alarms.append(self.time)
        self._state = msg.state

    def _on_tf(self, msg: TFMessage) -> None:
        for transform in msg.transforms:
            if transform.child_frame_id == TIP_FRAME:
                position = convert.matrix_from_transform(transform.transform)[:3, 3]
                self.tips.append((convert.seconds(transform.header.stamp), position))


def measure(options: Options) -> dict[str, Cases]:
    """Return `slip_*` metrics."""
    keys = ("slip_detect", "slip_recovered_tip_error", "slip_missed", "slip_false_alarms_per_min")
    result: dict[str, Cases] = {key: [] for key in keys}
    for seed in options.seeds:
        with running_stack(options, seed, options.rigid_tool(seed), WavingClient) as client:
            _run(client, options, seed, result)
    return result


def _run(client: WavingClient, options: Options, seed: int, result: dict[str, Cases]) -> None:
    rng = np.random.default_rng([seed, 7])
    client.wait_for(lambda: client.description is not None, "robot_description", 10.0)
    assert client.description is not None
    chain = KinematicChain.from_urdf(client.description, ee_link=options.ee_link)
    if _extended(client, seed):
        client.wave(chain, rng, QUIET_TIME)
        start, known = client.time, len(client.alarms)
        client.run_until(start + QUIET_TIME)
        last = client.tips[-1][0] if client.tips else start  # after a drop nothing is left to raise an alarm about
        result["slip_false_alarms_per_min"].append((seed, 60.0 * (len(client.alarms) - known) / max(last - start, 1.0)))
    for _ in range(SLIPS):
        _slip(client, chain, rng, seed, result)


def _extended(client: WavingClient, seed: int) -> bool:
    """Return whether there is an extension, after another estimation if need be."""
    if client.schema is not None and client.schema.state == BodySchema.EXTENDED:
        return True
    try:
        client.estimate(3.0)
    except ClientError as error:
        sys.stderr.write(f"slip, seed {seed}: {error}\n")
        return False
    return True


def _slip(
    client: WavingClient, chain: KinematicChain, rng: np.random.Generator, seed: int, result: dict[str, Cases]
) -> None:
    """Let the object slip once, from a good estimate; without one the slip is missed."""
    extended = _extended(client, seed)
    client.wave(chain, rng, 20.0)
    client.run_until(client.time + rng.uniform(2.0, 4.0))
    known = len(client.alarms)
    answer = client.displace.call_async(DisplaceObject.Request(displacement=_displacement(rng)))
    client.wait_for(answer.done, "answer of sim/displace_object", 5.0)
    begin = client.time
    due = begin + (DETECTION_TIMEOUT if extended else RECOVERY_TIME)
    client.wait_for(lambda: len(client.alarms) > known or client.time > due, "end of the slip", 60.0)
    found = len(client.alarms) > known
    result["slip_missed"].append((seed, 100.0 * (not found)))
    if found:
        result["slip_detect"].append((seed, client.alarms[known] - begin))
        due = client.alarms[known] + RECOVERY_TIME
        client.run_until(due)
    error = np.linalg.norm(_known_tip(client, due) - _true_tip(client, chain))
    result["slip_recovered_tip_error"].append((seed, 1e3 * float(error)))
    client.run_until(client.time + 2.0)


def _known_tip(client: WavingClient, due: float) -> np.ndarray:
    """Return the tip that users of the body schema go by, in the end-effector frame, shape (3,) [m]."""
    kept = client.schema is not None and client.schema.state in (BodySchema.EXTENDED, BodySchema.SLIPPED)
    tips = [position for stamp, position in client.tips if kept and stamp <= due]
    return tips[-1] if tips else np.zeros(3)


def _displacement(rng: np.random.Generator) -> Pose:
    direction, axis = rng.normal(size=(2, 3))
    T = np.eye(4)
    T[:3, 3] = rng.uniform(*SLIP_DISTANCE) * direction / np.linalg.norm(direction)
    T[:3, :3] = Rotation.from_rotvec(SLIP_ANGLE * axis / np.linalg.norm(axis)).as_matrix()
    return convert.pose_msg(T)


def _true_tip(client: WavingClient, chain: KinematicChain) -> np.ndarray:
    """Return the working point in the end-effector frame, shape (3,) [m]."""
    truth = client.fresh_true_tip()
    assert truth is not None, "the benchmark runs on the simulator"
    stamp = convert.seconds(truth.header.stamp)
    client.wait_for(lambda: client.time > stamp, "the next joint state", 5.0)
    T_base_ee = chain.forward(client.joint_states.position_at(chain.joint_names, stamp))
    position = convert.matrix(truth.pose)[:3, 3]
    return T_base_ee[:3, :3].T @ (position - T_base_ee[:3, 3])
