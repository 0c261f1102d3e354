"""The world: actuation, ground truth, slips and drops, bad input, determinism."""

from collections.abc import Iterator

import numpy as np
import pytest

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig, look_at
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.motion import record_episode, waving
from ideomotor_sim.robots import Robot, robot_spec
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.tools import TOOL_KINDS, sample_tool
from ideomotor_sim.transforms import pose_from, rotation_about, transform
from ideomotor_sim.world import World, WorldConfig

HOME = {"iiwa_joint_2": 0.6, "iiwa_joint_4": -1.4, "iiwa_joint_6": 1.0}
CAMERA = CameraConfig(width=160, height=120)


@pytest.fixture(scope="module")
def iiwa() -> Robot:
    return Robot("iiwa7", load_urdf("urdf/iiwa7.urdf.xacro"), "gripper_tcp")


def make(robot: Robot, actuation: str = "position", kind: str = "stick", seed: int = 0) -> World:
    tool = sample_tool(kind, np.random.default_rng(seed))
    pose = look_at(np.array([1.3, 0.5, 0.8]), np.array([0.55, 0.0, 0.4]))
    return World(robot, tool, plain_scene(), CAMERA, pose, WorldConfig(actuation=actuation), seed=seed, home=HOME)


@pytest.fixture
def world(iiwa: Robot) -> Iterator[World]:
    world = make(iiwa)
    yield world
    world.close()


def positions(world: World) -> dict[str, float]:
    state = world.joint_state()
    return dict(zip(state.names, state.position.tolist(), strict=True))


def test_forward_kinematics_equals_pinocchio(world: World) -> None:
    chain = KinematicChain.from_urdf(world.robot.urdf, ee_link="gripper_tcp")
    rng = np.random.default_rng(0)
    for _ in range(10):
        q = chain.random(rng)
        world.set_configuration(dict(zip(chain.joint_names, q.tolist(), strict=True)))
        assert np.allclose(world.T_base_ee(), chain.forward(q), atol=1e-9)


def test_position_commands_are_tracked(world: World) -> None:
    """With a tool in the gripper the arm follows a ramp with the controllers' lag, 2 / bandwidth, and settles."""
    target = {"iiwa_joint_1": 0.4, "iiwa_joint_4": -1.0}
    speed, peak = 0.4, 0.0  # [rad/s]
    for i in range(1500):
        ramp = min(speed * i * world.config.timestep, 0.4)
        world.set_command({"iiwa_joint_1": ramp, "iiwa_joint_4": -1.4 + ramp})
        world.step()
        actual = positions(world)["iiwa_joint_1"]
        if i == 400:
            assert ramp - actual == pytest.approx(speed * 2.0 / world.config.bandwidth, rel=0.3)
        peak = max(peak, actual)
    assert peak < 0.405
    for name, expected in (HOME | target).items():
        assert positions(world)[name] == pytest.approx(expected, abs=0.01), name


def test_a_step_command_settles(world: World) -> None:
    """A step saturates the torque; the arm gets there all the same."""
    world.set_command({"iiwa_joint_1": 1.0})
    world.step(1000)
    assert positions(world)["iiwa_joint_1"] == pytest.approx(1.0, abs=0.005)


def test_velocity_commands_are_tracked(iiwa: Robot) -> None:
    world = make(iiwa, "velocity")
    world.set_command({"iiwa_joint_1": 0.5, "iiwa_joint_7": -0.8})
    world.step(500)
    velocity = dict(zip(world.joint_names, world.joint_state().velocity.tolist(), strict=True))
    assert velocity["iiwa_joint_1"] == pytest.approx(0.5, abs=0.02)
    assert velocity["iiwa_joint_7"] == pytest.approx(-0.8, abs=0.02)
    assert abs(velocity["iiwa_joint_2"]) < 0.02


def test_effort_commands_act_against_gravity(iiwa: Robot) -> None:
    """Without a command the arm falls; with the torque that gravity needs it stays."""
    falling, held = make(iiwa, "effort"), make(iiwa, "effort")
    gravity = dict(zip(held.joint_names, held.data.qfrc_bias[[j.dof for j in held._joints.values()]], strict=True))
    held.set_command(gravity)
    start = positions(held)
    falling.step(150)
    held.step(150)
    assert abs(positions(falling)["iiwa_joint_2"] - start["iiwa_joint_2"]) > 0.1
    assert abs(positions(held)["iiwa_joint_2"] - start["iiwa_joint_2"]) < 0.01


@pytest.mark.parametrize("actuation", ["position", "velocity", "effort"])
def test_torque_limits_hold(iiwa: Robot, actuation: str) -> None:
    """Also for the sum of controller and gravity compensation (URDF: 176 N m, joint 7: 40 N m)."""
    world = make(iiwa, actuation)
    world.set_command({"iiwa_joint_2": 2.0 if actuation == "position" else 500.0, "iiwa_joint_7": -500.0})
    limit = np.array([176, 176, 110, 110, 110, 40, 40])
    peak = np.zeros(7)
    for _ in range(30):
        world.step()
        peak = np.maximum(peak, np.abs(world.joint_state().effort))
    assert (peak <= limit + 1e-6).all()
    assert peak[1] == pytest.approx(176.0, abs=1.0)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ({"iiwa_joint_9": 0.1}, "unknown joint 'iiwa_joint_9'; the robot has \\['iiwa_joint_1'"),
        ({"iiwa_joint_1": float("nan")}, "joint 'iiwa_joint_1': nan, expected a finite number"),
        ({"iiwa_joint_1": 0.3, "iiwa_joint_2": float("inf")}, "joint 'iiwa_joint_2': inf"),
    ],
)
def test_bad_commands_change_nothing(world: World, command: dict[str, float], message: str) -> None:
    before = world.data.ctrl.copy()
    with pytest.raises(SimulationError, match=message):
        world.set_command(command)
    assert np.array_equal(world.data.ctrl, before)


def test_two_runs_with_one_seed_are_equal(iiwa: Robot) -> None:
    """Physics, colour and depth, bit for bit; also after a reset; and another seed gives other noise."""
    runs = []
    for seed in (5, 5, 6):
        world = make(iiwa, kind="hinged_stick")
        world.reset(seed)
        runs.append([*record_episode(world, waving(world, np.random.default_rng(0)), 0.1)])
        if seed == 6:
            world.reset(5)
            runs.append([*record_episode(world, waving(world, np.random.default_rng(0)), 0.1)])
        world.close()
    first, again, other, after_reset = (run[-1] for run in runs)
    for same in (again, after_reset):
        assert np.array_equal(first.joint_state.position, same.joint_state.position)
        assert np.array_equal(first.image.rgb, same.image.rgb)
        assert np.array_equal(first.image.depth, same.image.depth)
        assert first.tool_joint == same.tool_joint
    assert not np.array_equal(first.image.depth, other.image.depth)
    assert np.array_equal(first.image.depth_exact, other.image.depth_exact)


@pytest.mark.parametrize("kind", TOOL_KINDS)
def test_tip_truth_follows_the_geometry(iiwa: Robot, kind: str) -> None:
    """MuJoCo's body frames, asked directly, put the centre line's end where `tip_position_base` says."""
    world = make(iiwa, kind=kind, seed=3)
    world.step(100)
    tool = world.tool
    assert tool is not None
    body = world.data.body("tool" if tool.joint is None else "tool_moving")
    expected = transform(pose_from(body.xpos, body.xmat.reshape(3, 3)), tool.centre_line[-1])
    assert np.allclose(world.tip_position_base(), expected, atol=1e-9)


@pytest.mark.parametrize(("kind", "low", "high"), [("hinged_stick", 0.17, 2.5), ("sliding_rod", 0.015, 0.08)])
def test_waving_moves_articulated_tools(iiwa: Robot, kind: str, low: float, high: float) -> None:
    """Waving shows the internal joint: tens of degrees, centimetres."""
    world = make(iiwa, kind=kind, seed=1)
    moved = []
    reference = waving(world, np.random.default_rng(2))
    for i in range(300):
        world.set_command(reference(i * 0.01))
        world.step(5)
        moved.append(world.tool_joint_position)
    assert low < max(moved) - min(moved) < high


def test_a_slip_moves_the_object_only(world: World) -> None:
    tip, ee = world.tip_position_ee(), world.T_base_ee()
    T = pose_from(np.array([0.0, 0.01, 0.03]), rotation_about(np.array([1.0, 0.0, 0.0]), 0.5))
    world.displace_object(T)
    assert np.allclose(world.tip_position_ee(), transform(T, tip))
    assert np.allclose(world.T_base_ee(), ee)
    world.reset(0)
    assert np.allclose(world.tip_position_ee(), tip)


def test_a_dropped_object_falls_to_the_floor(world: World) -> None:
    seen = world.object_mask(world.render().depth_exact).sum()
    world.drop_object()
    assert not world.held
    assert world.object_mask(world.render().depth_exact).sum() == 0
    world.step(1000)
    height = world.data.body("dropped").xpos[2]
    assert -0.01 < height < 0.4
    with pytest.raises(SimulationError, match="no object is held"):
        world.tip_position_ee()
    with pytest.raises(SimulationError, match="nothing to displace"):
        world.displace_object(np.eye(4))
    world.reset(0)
    assert world.object_mask(world.render().depth_exact).sum() == seen > 0


def test_bad_displacement_is_refused(world: World) -> None:
    with pytest.raises(SimulationError, match="expected a finite pose"):
        world.displace_object(np.full((4, 4), np.nan))


@pytest.mark.parametrize(
    ("urdf", "message"),
    [
        ("<robot", "not well-formed XML"),
        ("<sdf/>", "root element <sdf>, expected <robot>"),
        ("<robot name='r'><link name='a'/></robot>", "ee_link 'gripper_tcp' is not among its links \\['a'\\]"),
    ],
)
def test_bad_descriptions_are_refused(urdf: str, message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        robot_spec(Robot("r", urdf, "gripper_tcp"))


def test_unreadable_meshes_fall_back_to_collision_shapes() -> None:
    urdf = """<robot name="r"><link name="a"><visual><geometry><mesh filename="package://nowhere/a.dae"/></geometry>
    </visual><collision><geometry><box size="1 2 3"/></geometry></collision></link></robot>"""
    spec = robot_spec(Robot("r", urdf, "a"))
    assert [tuple(geom.size) for geom in spec.geoms] == [(0.5, 1.0, 1.5)]
