"""Peg and hole: the geometry of the opening, insertion by position commands, walls that hold, bad input."""

from collections.abc import Callable, Iterator
from itertools import product

import numpy as np
import pinocchio as pin
import pytest

from ideomotor.body.chain import KinematicChain
from ideomotor.body.urdf import load_urdf
from ideomotor_sim.camera import CameraConfig, look_at
from ideomotor_sim.errors import SimulationError
from ideomotor_sim.peg import Hole, Section, hole_for, peg
from ideomotor_sim.robots import Robot, robot_spec
from ideomotor_sim.scene import plain_scene
from ideomotor_sim.tools import Tool, sample_tool
from ideomotor_sim.transforms import inverse, pose_from, rotation_about, rotation_from_rpy
from ideomotor_sim.world import World

HOME = {"iiwa_joint_2": 0.8, "iiwa_joint_4": -1.7, "iiwa_joint_6": 0.6}
START = np.array([0.0, 0.8, 0.0, -1.7, 0.0, 0.6, 0.0])
UPRIGHT = pose_from(np.array([0.55, 0.1, 0.1]), np.eye(3))
TILTED = pose_from(np.array([0.5, -0.2, 0.15]), rotation_from_rpy(0.12, -0.2, 0.7))
LENGTH = 0.1  # [m] of the peg
CHAMFER = 0.001  # [m]
SECTIONS: tuple[Section, ...] = ("round", "square")
CLEARANCES = (1e-3, 3e-4)  # [m]


@pytest.fixture(scope="module")
def make() -> Callable[..., World]:
    robot = Robot("iiwa7", load_urdf("urdf/iiwa7.urdf.xacro"), "gripper_tcp")
    spec = robot_spec(robot)
    view = look_at(np.array([1.3, 0.5, 0.8]), np.array([0.55, 0.0, 0.2]))

    def make(section: Section = "round", clearance: float = 3e-4, *, hole: bool = True, **options: float) -> World:
        tool = peg(section, 0.016, LENGTH)
        there = hole_for(tool, clearance, UPRIGHT, chamfer=CHAMFER, **options) if hole else None
        return World(robot, tool, plain_scene(), CameraConfig(), view, home=HOME, spec=spec, hole=there)

    return make


@pytest.fixture(scope="module")
def worlds(make: Callable[..., World]) -> dict[tuple[Section, float], World]:
    """Compiled once; whoever takes one resets it."""
    return {(section, clearance): make(section, clearance) for section, clearance in product(SECTIONS, CLEARANCES)}


@pytest.fixture(params=[*product(SECTIONS, CLEARANCES)], ids=lambda p: f"{p[0]}-{1e3 * p[1]:.1f}mm")
def world(request: pytest.FixtureRequest, worlds: dict[tuple[Section, float], World]) -> World:
    world = worlds[request.param]
    world.reset(0)
    return world


def clearance(world: World) -> float:
    assert world.hole is not None
    return world.hole.width - 0.016


class Arm:
    """Puts the peg's end at a place in the hole frame, by inverse kinematics from the last configuration."""

    def __init__(self, world: World) -> None:
        self.world, self.T_base_hole = world, world.T_base_hole()
        self.chain = KinematicChain.from_urdf(world.robot.urdf, ee_link="gripper_tcp")
        self.q = START

    def command(self, end: np.ndarray) -> dict[str, float]:
        """Return joint positions by name; the peg stands along the hole's axis."""
        T = self.T_base_hole @ pose_from(end + np.array([0.0, 0.0, LENGTH]), np.diag([1.0, -1.0, -1.0]))
        for _ in range(100):
            now = self.chain.forward(self.q)
            twist = [T[:3, 3] - now[:3, 3], now[:3, :3] @ pin.log3(now[:3, :3].T @ T[:3, :3])]
            if np.abs(twist).max() < 1e-9:
                return dict(zip(self.chain.joint_names, self.q.tolist(), strict=True))
            self.q = self.q + np.linalg.pinv(self.chain.jacobian(self.q)) @ np.concatenate(twist)
        raise AssertionError(f"{end} is out of reach")

    def start(self, end: np.ndarray) -> None:
        command = self.command(end)
        self.world.set_configuration(command)
        self.world.set_command(command)

    def move(self, start: np.ndarray, end: np.ndarray, duration: float = 1.0) -> Iterator[None]:
        """Command a straight minimum-jerk path at 100 Hz, then 0.3 s of rest; yield after every command."""
        count = round(duration / 0.01)
        for i in range(count + 30):
            tau = min((i + 1) / count, 1.0)
            s = tau**3 * (10.0 - 15.0 * tau + 6.0 * tau**2)
            self.world.set_command(self.command(start + s * (end - start)))
            self.world.step(5)
            yield


def go_down(world: World, depth: float, offset: np.ndarray | None = None, duration: float = 1.0) -> tuple[Arm, float]:
    """Move the peg's end along the axis, beside it by ``offset``, and return the arm and the greatest depth."""
    arm, beside = Arm(world), np.zeros(3) if offset is None else offset
    start = beside + np.array([0.0, 0.0, 0.02])
    arm.start(start)
    return arm, max(world.insertion().depth for _ in arm.move(start, beside - [0.0, 0.0, depth], duration))


def deepest_contact(world: World) -> float:
    return float(-min(world.data.contact.dist, default=0.0))


def put_hole(world: World, end: np.ndarray, tilt: np.ndarray | None = None) -> None:
    """Move the hole, so that the peg's end is at ``end`` in the hole frame, tilted by a rotation about the end."""
    down = np.diag([1.0, -1.0, -1.0]) if tilt is None else tilt @ np.diag([1.0, -1.0, -1.0])
    T_hole_tool = pose_from(end - down @ [0.0, 0.0, LENGTH], down)
    world.move_hole(world.T_base_tool() @ inverse(T_hole_tool))
    world.set_configuration({})  # finds the contacts


# --- geometry -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [0.0004, 0.0009, 0.002, 0.015, 0.0295])
def test_the_opening_is_as_wide_as_stated(world: World, depth: float) -> None:
    """Half of the clearance to every side, more in the chamfer; the edges of the round hole's facets give 2 %."""
    play = clearance(world) / 2.0 + max(CHAMFER - depth, 0.0)
    round_peg = world.hole is not None and world.hole.section == "round"
    for angle in np.linspace(0.0, 2.0 * np.pi, 33):
        towards = np.array([np.cos(angle), np.sin(angle), 0.0])
        reach = play if round_peg else play / np.abs(towards).max()
        for share, touches in ((0.99, False), (1.03, True)):
            put_hole(world, share * reach * towards - [0.0, 0.0, depth])
            assert (world.data.ncon > 0) == touches, (angle, share)
            assert world.insertion().offset == pytest.approx(share * reach, abs=1e-9)


def test_the_hole_has_a_floor_and_a_rim(world: World) -> None:
    for end, touches in (
        ([0.0, 0.0, -0.0299], False),
        ([0.0, 0.0, -0.0301], True),
        ([0.012, 0.0, 1e-4], False),
        ([0.012, 0.0, -1e-4], True),
        ([-0.008, 0.01, -1e-4], True),
    ):
        put_hole(world, np.array(end))
        assert (world.data.ncon > 0) == touches, end


def test_contacts_push_towards_the_axis(world: World) -> None:
    """Also those of a hundredth of a micrometre, which MuJoCo's own tolerance turns round between cylinder and box."""
    rng = np.random.default_rng(0)
    count = 0
    for _ in range(300):
        angle, deep = rng.uniform(-np.pi, np.pi), 10.0 ** rng.uniform(-8.0, -4.5)
        if world.hole is not None and world.hole.section == "square":
            angle = np.pi / 2.0 * rng.integers(4)
        tilt = rotation_about(np.array([-np.sin(angle), np.cos(angle), 0.0]), rng.uniform(0.0, 1e-3))
        towards = np.array([np.cos(angle), np.sin(angle), 0.0])
        put_hole(world, (clearance(world) / 2.0 + deep) * towards - [0.0, 0.0, 0.015], tilt)
        inwards = -(world.T_base_hole()[:3, :3] @ towards)
        peg_geom = world.model.body_geomadr[world.model.body("tool").id]
        for contact in world.data.contact:
            sign = 1.0 if contact.geom[1] == peg_geom else -1.0  # the normal points to the second geom
            assert sign * contact.frame[:3] @ inwards > 0.5
            count += 1
    assert count > 300


def test_insertion_is_measured_in_the_hole_frame(world: World) -> None:
    tilt = rotation_about(np.array([1.0, 0.0, 0.0]), 0.1)
    for end, inside in (
        ([0.0, 0.0, 0.001], False),
        ([5e-5, -1e-4, -0.0123], True),
        ([0.0, 2e-3, -0.0123], False),
        ([1.2e-3, 0.0, -0.0002], clearance(world) > 5e-4),  # on the chamfer
    ):
        put_hole(world, np.array(end), tilt)
        insertion = world.insertion()
        assert insertion.depth == pytest.approx(-end[2], abs=1e-12)
        assert insertion.offset == pytest.approx(np.hypot(end[0], end[1]), abs=1e-12)
        assert insertion.tilt == pytest.approx(0.1)
        assert insertion.inside == inside
        assert insertion.reached(0.0130) == (inside and end[2] == -0.0123)
        assert not insertion.reached(0.0134)


def test_the_hole_moves_and_comes_back(world: World) -> None:
    world.move_hole(TILTED)
    world.step()
    assert np.allclose(world.T_base_hole(), TILTED)
    world.reset(0)
    assert np.allclose(world.T_base_hole(), UPRIGHT)


# --- insertion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [UPRIGHT, TILTED], ids=["upright", "tilted"])
@pytest.mark.parametrize("duration", [0.5, 4.0])
def test_straight_down_inserts(world: World, place: np.ndarray, duration: float) -> None:
    world.move_hole(place)
    go_down(world, 0.028, duration=duration)
    assert world.insertion().reached(0.028, tolerance=2e-4)
    assert world.insertion().offset < clearance(world) / 2.0
    assert deepest_contact(world) < 1e-5


def test_an_offset_within_the_chamfer_slides_in(world: World) -> None:
    go_down(world, 0.028, np.array([0.8 * CHAMFER + clearance(world) / 2.0, 0.0, 0.0]))
    assert world.insertion().reached(0.028, tolerance=3e-4)
    assert world.insertion().offset < clearance(world) / np.sqrt(2.0) + 1e-5  # a square one may slide along a wall


@pytest.mark.parametrize("offset", [(0.0025, 0.0), (-0.003, 0.003), (0.0, 0.012)])
def test_a_larger_offset_keeps_the_peg_out(world: World, offset: tuple[float, float]) -> None:
    """The arm presses on the rim with some 400 N, and the rim gives way by hundredths of a millimetre."""
    _, deepest = go_down(world, 0.028, np.array([*offset, 0.0]))
    assert deepest < 5e-4
    assert not world.insertion().inside
    assert world.insertion().offset == pytest.approx(np.hypot(*offset), abs=2e-4)  # nor does it creep
    assert deepest_contact(world) < 5e-5


def test_without_chamfer_the_edge_stops_the_peg(make: Callable[..., World]) -> None:
    tool = peg("round", 0.016, LENGTH)
    world = make()
    sharp = World(
        world.robot, tool, plain_scene(), world.camera, np.eye(4), home=HOME,
        hole=hole_for(tool, 3e-4, UPRIGHT, chamfer=0.0),
    )  # fmt: skip
    for offset, inserted in ((0.0, True), (8e-4, False)):
        sharp.reset(0)
        go_down(sharp, 0.028, np.array([offset, 0.0, 0.0]))
        assert sharp.insertion().reached(0.028) == inserted


@pytest.mark.parametrize("angle", np.linspace(0.0, 2.0 * np.pi, 6)[:-1])
def test_walls_hold(world: World, angle: float) -> None:
    """Commanded 5 mm sideways, an inserted peg stays between the walls, always."""
    arm, _ = go_down(world, 0.025)
    here = np.array([0.0, 0.0, -0.025])
    for _ in arm.move(here, here + 0.005 * np.array([np.cos(angle), np.sin(angle), 0.0]), duration=0.5):
        insertion = world.insertion()
        assert insertion.inside
        assert insertion.depth == pytest.approx(0.025, abs=0.002)
    assert deepest_contact(world) < 5e-5


def test_two_runs_are_equal(make: Callable[..., World], worlds: dict[tuple[Section, float], World]) -> None:
    """Bit for bit, in another world and after a reset; with sliding on the chamfer."""
    runs = []
    for world in (make(), worlds["round", 3e-4], worlds["round", 3e-4]):
        world.reset(0)
        go_down(world, 0.028, np.array([0.0, 8e-4, 0.0]), duration=0.3)
        runs.append(np.concatenate([world.data.qpos, world.data.qvel]))
    assert np.array_equal(runs[0], runs[1])
    assert np.array_equal(runs[1], runs[2])


# --- what else there is in the world --------------------------------------------------------------------------


def test_the_held_peg_touches_nothing_else(world: World) -> None:
    """In the floor there is no contact."""
    arm = Arm(world)
    arm.start(np.array([0.1, 0.1, -0.15]))
    assert world.tip_position_base()[2] < -0.03
    assert world.data.ncon == 0


def test_a_world_without_hole_is_as_it_was(make: Callable[..., World]) -> None:
    """MuJoCo's own contact options, and a peg that goes through everything."""
    world = make(hole=False)
    options, default = world.model.opt, robot_spec(world.robot).compile().opt
    for name in ("cone", "impratio", "ccd_tolerance", "ccd_iterations", "enableflags", "disableflags"):
        assert getattr(options, name) == getattr(default, name)
    assert not world.model.geom_contype[world.model.body_geomadr[world.model.body("tool").id]]
    for ask in (world.insertion, world.T_base_hole, lambda: world.move_hole(UPRIGHT)):
        with pytest.raises(SimulationError, match="there is no hole in this world"):
            ask()


def test_a_dropped_peg_stays_in_the_hole(world: World) -> None:
    """It falls to the hole's floor; nothing is left to insert."""
    go_down(world, 0.02)
    world.drop_object()
    world.step(500)
    dropped = world.data.body("dropped")
    end = inverse(world.T_base_hole()) @ pose_from(dropped.xpos, dropped.xmat.reshape(3, 3)) @ [0.0, 0.0, LENGTH, 1.0]
    assert end[2] == pytest.approx(-0.03, abs=1e-4)
    assert np.hypot(*end[:2]) < clearance(world)
    with pytest.raises(SimulationError, match="no object is held: nothing to insert"):
        world.insertion()


def test_the_block_hides_the_inserted_tip(world: World) -> None:
    arm = Arm(world)
    arm.start(np.array([0.0, 0.0, 0.02]))
    assert world.keypoint_truth().visible[-1]
    arm.start(np.array([0.0, 0.0, -0.02]))
    assert not world.keypoint_truth().visible[-1]


# --- bad input ------------------------------------------------------------------------------------------------

SKEWED = UPRIGHT + np.diag([0.1, 0.0, 0.0, 0.0])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: peg("oval"), r"section='oval' is not one of \['square', 'round'\]"),
        (lambda: peg(width=0.0), "width=0.0, expected a finite number above 0"),
        (lambda: peg(length=float("nan")), "length=nan"),
        (lambda: peg(grip=-0.1), "grip=-0.1"),
        (lambda: peg(T_ee_tool=np.eye(3)), "T_ee_tool=.*expected a finite pose of shape"),
        (lambda: hole_for(peg(), 0.0, UPRIGHT), "clearance=0.0, expected a finite number above 0"),
        (lambda: hole_for(peg(), -1e-3, UPRIGHT), "clearance=-0.001"),
        (lambda: hole_for(None, 1e-3, UPRIGHT), "tool=None, expected a peg"),
        (
            lambda: hole_for(sample_tool("stick", np.random.default_rng(0)), 1e-3, UPRIGHT),
            "tool='stick', expected a peg",
        ),
        (lambda: hole_for(peg(), 1e-3, SKEWED), "T_base_hole=.*expected a finite pose of shape"),
        (lambda: Hole(UPRIGHT, "oval", 0.02), "section='oval'"),  # type: ignore[arg-type]
        (lambda: Hole(UPRIGHT, "round", -0.02), "width=-0.02"),
        (lambda: Hole(UPRIGHT, "round", 0.02, depth=float("inf")), "depth=inf"),
        (lambda: Hole(UPRIGHT, "round", 0.02, rim=0.0), "rim=0.0"),
        (
            lambda: Hole(UPRIGHT, "round", 0.02, chamfer=-1e-3),
            "chamfer=-0.001, expected 0 or more, less than depth=0.03",
        ),
        (lambda: Hole(UPRIGHT, "round", 0.02, chamfer=0.03), "chamfer=0.03"),
        (lambda: Hole(UPRIGHT, "round", 0.02, friction=float("nan")), "friction=nan"),
    ],
)
def test_bad_sizes_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(SimulationError, match=message):
        build()


@pytest.mark.parametrize(
    ("tool", "hole", "message"),
    [
        (
            peg(width=0.016),
            Hole(UPRIGHT, "round", 0.016),
            "width=0.016 of the hole, expected more than the peg's .* 0.016",
        ),
        (peg("square"), Hole(UPRIGHT, "round", 0.02), "section='round' of the hole, expected 'square'"),
        (None, Hole(UPRIGHT, "round", 0.02), "tool=None, expected a peg"),
    ],
)
def test_a_peg_that_does_not_fit_is_refused(
    make: Callable[..., World], tool: Tool | None, hole: Hole, message: str
) -> None:
    world = make(hole=False)
    with pytest.raises(SimulationError, match=message):
        World(world.robot, tool, plain_scene(), world.camera, np.eye(4), hole=hole)


def test_a_hole_is_not_moved_to_a_bad_pose(world: World) -> None:
    with pytest.raises(SimulationError, match=r"T_base_hole=.*expected a finite pose"):
        world.move_hole(np.full((4, 4), np.nan))
    assert np.allclose(world.T_base_hole(), UPRIGHT)
