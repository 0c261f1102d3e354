"""Task files of the benchmark: where to start, where to go, how long demonstrations are, how fast to execute."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from scipy.spatial.transform import Rotation

from ideomotor.body.urdf import load_urdf
from ideomotor.data.demonstrations import MIN_STATES
from ideomotor.errors import IdeomotorError
from ideomotor_sim.robots import Robot
from ideomotor_sim.tools import TOOL_KINDS

PLACING = Path(__file__).parent / "tasks" / "placing.yaml"


class TaskError(IdeomotorError):
    """A task file that makes no task."""


@dataclass(frozen=True)
class Spread:
    """How far poses are drawn from their mean, uniformly."""

    position: np.ndarray  # (3,) [m]
    yaw: float  # about the vertical [rad]
    tilt: float  # about a horizontal axis [rad]

    def draw(self, T: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return a pose near ``T``, shape (4, 4)."""
        azimuth, tilt = rng.uniform(-np.pi, np.pi), rng.uniform(0.0, self.tilt)
        turn = Rotation.from_rotvec(tilt * np.array([np.cos(azimuth), np.sin(azimuth), 0.0]))
        turn = turn * Rotation.from_rotvec([0.0, 0.0, rng.uniform(-self.yaw, self.yaw)])
        drawn = T.copy()
        drawn[:3, 3] += rng.uniform(-self.position, self.position)
        drawn[:3, :3] = turn.as_matrix() @ T[:3, :3]
        return drawn


@dataclass(frozen=True)
class Task:
    """What is demonstrated and tested."""

    urdf: Path
    ee_link: str
    tool: str
    posture: np.ndarray  # (n,) [rad] or [m]
    start: np.ndarray  # (4, 4) mean pose of ee_link in the base frame
    goal: np.ndarray  # (4, 4)
    spread: Spread
    demonstration_steps: tuple[int, ...]
    tests: int
    speeds: tuple[float, ...]

    @property
    def mean_steps(self) -> int:
        """Mean length of the demonstrations, speed 1."""
        return round(float(np.mean(self.demonstration_steps)))

    def steps_at(self, speed: float) -> int:
        """Return the number of steps at a speed."""
        return max(1, round(self.mean_steps / speed))

    def robot(self) -> Robot:
        """Return the robot.

        Raises:
            UrdfError: if there is no such file or it is not a robot's description.
        """
        return Robot(self.urdf.name.split(".")[0], load_urdf(self.urdf), self.ee_link, self.urdf.parent)


def read_task(path: Path) -> Task:
    """Read a task file.

    Raises:
        TaskError: naming the file, the field, its value and what was expected.
    """
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise TaskError(f"{path}: cannot read it: {error}") from error
    fields = _fields(data, path, "", tuple(Task.__dataclass_fields__))
    spread = _fields(fields["spread"], path, "spread.", tuple(Spread.__dataclass_fields__))
    if fields["tool"] not in TOOL_KINDS:
        raise TaskError(f"{path}: tool is {fields['tool']!r}, expected one of {list(TOOL_KINDS)}")
    steps = _numbers(fields["demonstration_steps"], path, "demonstration_steps", least=MIN_STATES - 1)
    return Task(
        urdf=Path(str(fields["urdf"])),
        ee_link=str(fields["ee_link"]),
        tool=str(fields["tool"]),
        posture=_numbers(fields["posture"], path, "posture"),
        start=_pose(fields["start"], path, "start"),
        goal=_pose(fields["goal"], path, "goal"),
        spread=Spread(
            _numbers(spread["position"], path, "spread.position", count=3, least=0.0),
            float(_numbers([spread["yaw"]], path, "spread.yaw", least=0.0)[0]),
            float(_numbers([spread["tilt"]], path, "spread.tilt", least=0.0)[0]),
        ),
        demonstration_steps=tuple(int(n) for n in steps),
        tests=int(_numbers([fields["tests"]], path, "tests", least=1)[0]),
        speeds=tuple(_numbers(fields["speeds"], path, "speeds", least=1e-3).tolist()),
    )


def _fields(data: Any, path: Path, prefix: str, expected: tuple[str, ...]) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(data, dict) or set(data) != set(expected):
        found = sorted(map(str, data)) if isinstance(data, dict) else data
        raise TaskError(f"{path}: {prefix or 'the file'} has {found!r}, expected the fields {sorted(expected)}")
    return data


def _numbers(
    data: Any,  # noqa: ANN401
    path: Path,
    field: str,
    *,
    count: int | None = None,
    least: float = -np.inf,
) -> np.ndarray:
    try:
        numbers = np.array(data, dtype=float)
    except (TypeError, ValueError):
        numbers = np.array(np.nan)
    wrong = numbers.ndim != 1 or not numbers.size or not np.isfinite(numbers).all() or (numbers < least).any()
    if wrong or (count is not None and len(numbers) != count):
        many = "numbers" if count is None else f"{count} numbers"
        raise TaskError(
            f"{path}: {field} is {data!r}, expected {many}, finite" + f", at least {least}" * (least > -1e9)
        )
    return numbers


def _pose(data: Any, path: Path, field: str) -> np.ndarray:  # noqa: ANN401
    fields = _fields(data, path, f"{field}.", ("position", "rpy"))
    T = np.eye(4)
    T[:3, 3] = _numbers(fields["position"], path, f"{field}.position", count=3)
    T[:3, :3] = Rotation.from_euler("xyz", _numbers(fields["rpy"], path, f"{field}.rpy", count=3)).as_matrix()
    return T
