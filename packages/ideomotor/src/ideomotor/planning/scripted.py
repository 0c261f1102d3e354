r"""A placing motion as a person shows it: across at a height, the corner rounded, and straight down onto the goal.

::

         r .------------------. r       height = max(start, goal + approach)
          |      across        |
    start o      and turn      |  down
                               o goal

With :math:`s \in [0, 1]` the progress across, :math:`e` its horizontal direction, :math:`d` its length, and random
:math:`b \in \mathbb{R}^2`, the tip's pose is

.. math::
    p(s) &= p_{start} + s\,d\,e + (z(s) - z_{start})\,e_z + d \sin^2(\pi s)\,(b_1\, e_z \times e + |b_2|\, e_z) \\
    R(s) &= R_{start} \exp\big((3 s^2 - 2 s^3) \log(R_{start}^T R_{goal})\big)

so that the descent is straight and does not turn, whatever the variation.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pinocchio as pin

from ideomotor.body.chain import KinematicChain
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError
from ideomotor.planning.inverse_kinematics import InverseKinematics, Target

_LEVER = 0.1  # [m/rad] a turn counts as a way of the tip
_FINE = 200  # points of each piece of the path before they are spaced evenly
_POSITION, _ORIENTATION = 3e-4, 3e-3  # [m], [rad] largest deviation from the path
_STEEPEST = 25.0  # [rad/m] or [m/m] a joint that must move faster jumps to another posture
_WAVES = 3  # of the uneven pace
_ATTEMPTS = 50  # to find a start or goal
_LOWEST = 0.05  # [m] above the base's ground plane
_SHORTEST = 0.1  # [m] way from start to goal


class ScriptedMotionError(IdeomotorError):
    """A scripted motion that the arm cannot do, or that is not well defined."""


@dataclass(frozen=True, kw_only=True)
class PlacingConfig(Config):
    """How something is placed."""

    approach: float = value(0.1, "Height above the goal from which it is put down [m].", ge=0.0, le=1.0)
    radius: float = value(0.04, "Radius of the rounded corners [m].", ge=0.0, le=1.0)
    variation: float = value(0.05, "Bulge of the way across, standard deviation by its length [1].", ge=0.0, le=0.3)
    spacing: float = value(0.004, "Way of the tip between two points of the path [m].", ge=1e-4, le=0.05)
    limit_margin: float = value(0.02, "Distance kept from the joints' limits [rad] or [m].", ge=0.0, le=0.5)
    max_speed: float = value(0.8, "Largest share of the joints' velocity limits [1].", ge=0.01, le=1.0)
    max_acceleration: float = value(8.0, "Largest joint acceleration [rad/s^2] or [m/s^2].", ge=0.1, le=100.0)


def scripted_placing(
    chain: KinematicChain,
    q_start: np.ndarray,
    T_base_goal: np.ndarray,
    *,
    rng: np.random.Generator,
    config: PlacingConfig | None = None,
) -> np.ndarray:
    """Return joint positions along a placing motion of the chain's end, evenly spaced by its way, shape (N, n).

    Args:
        chain: ends at what is placed; up is the z axis of its base. Joints that are not actuated stay as they are.
        q_start: where the motion begins, shape (n,) [rad] or [m]; the first point.
        T_base_goal: pose of the chain's end at the goal, shape (4, 4) [m].
        rng: source of the variation between repetitions.
        config: how to place; the default if None.

    Raises:
        ChainError: ``q_start`` does not fit the chain.
        KinematicsError: the chain does not suit inverse kinematics.
        ScriptedMotionError: the goal is no pose, the start is at a limit, or the arm cannot follow the path in one
            continuous motion within its limits.
    """
    config = config or PlacingConfig()
    T_base_goal = _checked_pose(T_base_goal)
    ik = InverseKinematics(chain, config.limit_margin)
    T_base_start = chain.forward(q_start)
    q_start = np.array(q_start, dtype=float)
    for i in ik.active:
        if not ik.lower[i] <= q_start[i] <= ik.upper[i]:
            raise ScriptedMotionError(
                f"start: joint {chain.joint_names[i]!r} at {q_start[i]:.4f}, expected {ik.lower[i]:.4f} to "
                f"{ik.upper[i]:.4f}"
            )
    return _followed(ik, q_start, placing_path(T_base_start, T_base_goal, rng=rng, config=config), config)


def placing_path(
    T_base_start: np.ndarray, T_base_goal: np.ndarray, *, rng: np.random.Generator, config: PlacingConfig
) -> np.ndarray:
    """Return poses along a placing motion, from start to goal, evenly spaced, shape (N, 4, 4) [m]."""
    start, goal = T_base_start[:3, 3], T_base_goal[:3, 3]
    height = max(start[2], goal[2] + config.approach)
    across = goal[:2] - start[:2]
    length = float(np.linalg.norm(across))
    e = across / length if length > 1e-9 else np.array([1.0, 0.0])
    radius = config.radius * rng.uniform(0.8, 1.2)
    bulge = rng.normal(0.0, config.variation, 2) * length
    x, z, s = _profile(length, start[2], height, goal[2], radius)
    swelling = np.sin(np.pi * s) ** 2  # (M,)
    side, up = bulge[0] * swelling, abs(bulge[1]) * swelling
    position = np.stack(
        [start[0] + x * e[0] - side * e[1], start[1] + x * e[1] + side * e[0], z + up], axis=1
    )  # (M, 3)
    turn = pin.log3(T_base_start[:3, :3].T @ T_base_goal[:3, :3])  # (3,)
    turned = 3 * s**2 - 2 * s**3  # (M,)
    way = np.linalg.norm(np.diff(position, axis=0), axis=1) + _LEVER * np.linalg.norm(turn) * np.diff(turned)
    total = np.concatenate([[0.0], np.cumsum(way)])
    even = np.linspace(0.0, total[-1], int(np.ceil(total[-1] / config.spacing)) + 1)
    poses = np.tile(np.eye(4), (len(even), 1, 1))
    poses[:, :3, 3] = np.stack([np.interp(even, total, position[:, i]) for i in range(3)], axis=1)
    poses[:, :3, :3] = [T_base_start[:3, :3] @ pin.exp3(t * turn) for t in np.interp(even, total, turned)]
    return poses


def paced(path: np.ndarray, steps: int, rng: np.random.Generator, unevenness: float = 0.5) -> np.ndarray:
    r"""Return a path run through in a number of steps at a random, uneven pace, from rest to rest.

    With progress :math:`\sigma(\tau)` along the path, and random amplitudes :math:`a_k` and phases :math:`\varphi_k`:

    .. math::
        \dot\sigma(\tau) \propto \tau^2 (1 - \tau)^2 \exp \sum_{k=1}^{3} \tfrac{1}{k} a_k \sin(2 \pi k \tau + \varphi_k)

    Args:
        path: points evenly spaced, shape (N, n).
        steps: number of steps, at least 1.
        rng: source of the pace.
        unevenness: standard deviation of the amplitudes; at 0 the pace is that of a minimum-jerk motion.

    Returns:
        States, the first and last those of the path, shape (steps + 1, n).

    Raises:
        ScriptedMotionError: no steps, or a path without points.
    """
    path = np.asarray(path, dtype=float)
    if steps < 1 or path.ndim != 2 or not len(path):
        raise ScriptedMotionError(f"steps={steps}, path of shape {path.shape}, expected at least 1, and (N, n)")
    k = np.arange(1, _WAVES + 1)
    amplitude, phase = rng.normal(0.0, unevenness, _WAVES) / k, rng.uniform(0.0, 2 * np.pi, _WAVES)
    tau = np.linspace(0.0, 1.0, 20 * steps + 1)
    waves = np.sin(2 * np.pi * k * tau[:, None] + phase) @ amplitude
    speed = (tau * (1 - tau)) ** 2 * np.exp(waves)  # (20 steps + 1,)
    way = np.concatenate([[0.0], np.cumsum(speed[1:] + speed[:-1])])
    progress = (way / way[-1])[::20] * (len(path) - 1)  # (steps + 1,) in points of the path
    return np.stack([np.interp(progress, np.arange(len(path)), column) for column in path.T], axis=1)


@dataclass(frozen=True)
class TimedMotion:
    """What the joints do at a constant rate, from rest to rest."""

    position: np.ndarray  # (T, n) [rad] or [m]
    velocity: np.ndarray  # (T, n) [rad/s] or [m/s]


def timed_placing(
    chain: KinematicChain,
    q_start: np.ndarray,
    T_base_goal: np.ndarray,
    duration: float,
    rate: float,
    *,
    rng: np.random.Generator,
    config: PlacingConfig | None = None,
) -> TimedMotion:
    """Return a placing motion of a duration [s] at a rate [Hz], at an uneven pace; see `scripted_placing`.

    Args:
        chain: see `scripted_placing`.
        q_start: see `scripted_placing`.
        T_base_goal: see `scripted_placing`.
        duration: from start to goal [s].
        rate: states a second [Hz].
        rng: source of path and pace.
        config: see `scripted_placing`.

    Raises:
        ChainError: as `scripted_placing`.
        KinematicsError: as `scripted_placing`.
        ScriptedMotionError: as `scripted_placing`, or no pace was found that is slow enough for all joints.
    """
    config = config or PlacingConfig()
    path = scripted_placing(chain, q_start, T_base_goal, rng=rng, config=config)
    reason = ""
    for _ in range(_ATTEMPTS):
        position = paced(path, round(duration * rate), rng)
        velocity = np.gradient(position, 1.0 / rate, axis=0)
        velocity[[0, -1]] = 0.0
        acceleration = np.diff(velocity, axis=0) * rate
        reason = _too_fast(chain, velocity, config.max_speed * chain.velocity_limit, "velocity")
        reason = reason or _too_fast(chain, acceleration, np.full(chain.n, config.max_acceleration), "acceleration")
        if not reason:
            return TimedMotion(position, velocity)
    raise ScriptedMotionError(f"no pace for {duration:.2f} s found; the last: {reason}")


def _too_fast(chain: KinematicChain, rate: np.ndarray, allowed: np.ndarray, what: str) -> str:
    """Return which joint exceeds what is allowed, shapes (T, n) and (n,); empty if none does."""
    largest = np.abs(rate).max(axis=0)  # (n,)
    i = int((largest / allowed).argmax())
    return f"{what} {largest[i]:.2f} of {chain.joint_names[i]!r}, allowed {allowed[i]:.2f}" * bool(
        largest[i] > allowed[i]
    )


def random_goal(
    chain: KinematicChain,
    q: np.ndarray,
    rng: np.random.Generator,
    *,
    spread: float = 0.2,
    config: PlacingConfig | None = None,
) -> np.ndarray:
    """Return a pose on which the chain's end can be placed from a configuration, ``T_base_goal`` of shape (4, 4) [m].

    It is that of a random configuration near ``q``, 5 cm or more above the base's ground plane.

    Args:
        chain: see `scripted_placing`.
        q: configuration to stay near, shape (n,) [rad] or [m].
        rng: source of randomness.
        spread: largest change of a joint [rad] or [m].
        config: see `scripted_placing`.

    Raises:
        ScriptedMotionError: none was found.
    """

    def check(T_base_goal: np.ndarray) -> None:
        if T_base_goal[2, 3] < _LOWEST:
            raise ScriptedMotionError(f"{T_base_goal[2, 3]:.3f} m high, expected {_LOWEST} m")
        scripted_placing(chain, q, T_base_goal, rng=rng, config=config)

    return _accepted(lambda: chain.forward(_near(chain, q, spread, rng)), check, f"goal within {spread} of {q}")


def random_start(
    chain: KinematicChain,
    q: np.ndarray,
    T_base_goal: np.ndarray,
    rng: np.random.Generator,
    *,
    spread: float = 0.2,
    config: PlacingConfig | None = None,
) -> np.ndarray:
    """Return a random configuration near ``q``, shape (n,), from which the chain's end can be placed on a goal.

    It lies at least 10 cm from the goal.

    Args:
        chain: see `scripted_placing`.
        q: configuration to stay near, shape (n,) [rad] or [m].
        T_base_goal: pose of the chain's end at the goal, shape (4, 4) [m].
        rng: source of randomness.
        spread: largest change of a joint [rad] or [m].
        config: see `scripted_placing`.

    Raises:
        ScriptedMotionError: none was found.
    """

    def check(q_start: np.ndarray) -> None:
        way = np.linalg.norm(chain.forward(q_start)[:3, 3] - T_base_goal[:3, 3])
        if way < _SHORTEST:
            raise ScriptedMotionError(f"{way:.3f} m from the goal, expected {_SHORTEST} m")
        scripted_placing(chain, q_start, T_base_goal, rng=rng, config=config)

    return _accepted(lambda: _near(chain, q, spread, rng), check, f"start within {spread} of {q}")


def _accepted(draw: Callable[[], np.ndarray], check: Callable[[np.ndarray], None], what: str) -> np.ndarray:
    """Return the first draw that the check does not refuse."""
    reason = ""
    for _ in range(_ATTEMPTS):
        drawn = draw()
        try:
            check(drawn)
            return drawn
        except ScriptedMotionError as error:
            reason = str(error)
    raise ScriptedMotionError(f"no {what} found; the last: {reason}")


def _near(chain: KinematicChain, q: np.ndarray, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Return ``q`` with the actuated joints varied within their limits, shape (n,)."""
    actuated = np.array([name in chain.actuated_names for name in chain.joint_names])
    return np.clip(q + rng.uniform(-spread, spread, chain.n) * actuated, chain.lower, chain.upper)


def _checked_pose(T: np.ndarray) -> np.ndarray:
    T = np.asarray(T, dtype=float)
    if T.shape != (4, 4) or not np.isfinite(T).all() or not np.allclose(T[:3, :3] @ T[:3, :3].T, np.eye(3), atol=1e-6):
        raise ScriptedMotionError(f"T_base_goal={T.tolist()}, expected a pose of shape (4, 4)")
    return T


def _profile(
    length: float, start: float, height: float, goal: float, radius: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return way across, height [m], and progress across [1] along up, across, down with rounded corners, (M,) each."""
    r0, r1 = min(radius, height - start, length / 2), min(radius, height - goal, length / 2)
    linear, angle = np.linspace(0.0, 1.0, _FINE), np.linspace(0.0, np.pi / 2, _FINE)
    x = [
        np.zeros(_FINE),
        r0 * (1 - np.cos(angle)),
        r0 + (length - r0 - r1) * linear,
        length - r1 * (1 - np.sin(angle)),
        np.full(_FINE, length),
    ]
    z = [
        start + (height - r0 - start) * linear,
        height - r0 * (1 - np.sin(angle)),
        np.full(_FINE, height),
        height - r1 * (1 - np.cos(angle)),
        height - r1 + (goal - height + r1) * linear,
    ]
    s = (
        [way / length for way in x]
        if length > 1e-9
        else [0 * linear, 0 * linear, linear, 0 * linear + 1, 0 * linear + 1]
    )
    return np.concatenate(x), np.concatenate(z), np.concatenate(s)


def _followed(ik: InverseKinematics, q_start: np.ndarray, poses: np.ndarray, config: PlacingConfig) -> np.ndarray:
    """Return joint positions along poses, each found from the one before, shape (N, n)."""
    path = [q_start]
    for i, T_base_tip in enumerate(poses[1:], 1):
        solution = ik.descend(Target(T_base_tip), q_start, path[-1])
        where = f"{100 * i / (len(poses) - 1):.0f} % of the way, at {T_base_tip[:3, 3].round(3).tolist()}"
        if not solution.error.within(_POSITION, _ORIENTATION):
            raise ScriptedMotionError(
                f"{where}: the arm comes no nearer than {1e3 * solution.error.position:.1f} mm and "
                f"{solution.error.orientation:.3f} rad"
            )
        change = np.abs(solution.q - path[-1])
        if change.max() > _STEEPEST * config.spacing:
            name = ik.chain.joint_names[int(change.argmax())]
            raise ScriptedMotionError(f"{where}: joint {name!r} jumps by {change.max():.3f}: another posture")
        path.append(solution.q)
    return np.array(path)
