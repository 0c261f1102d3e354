r"""The way to a target under a learned reward: planned once, run through at any speed.

.. math::
    q_{cmd}(t) = q(s(t / T)), \qquad c(s) = \frac1K \int_0^s w^T \dot z^2 + v^T (x - r)^2 \, ds'

with :math:`q(s)` the path of least cost over progress (`reward_planner`), :math:`s` the minimum-jerk profile, and
:math:`z` the keypoints. The time T is asked for: the path does not depend on it, nor on the number of steps it was
planned in.

What the target asks for is added to the reward's keypoints as points that cost next to nothing to move: keypoints on a
line say nothing of the turn about it, and the tip need not be one of them.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ideomotor.planning.held_points import HeldPoints
from ideomotor.planning.inverse_kinematics import InverseKinematics, KinematicsError, PoseError, Target
from ideomotor.planning.joint_path import Bounds, Reference, SplinePath
from ideomotor.planning.path_planner import NoPathError, missed
from ideomotor.planning.reward_planner import PathProblem, Plan, PlannerConfig, PlanningError, plan
from ideomotor.rewards.weights import Reward, Weights

_STAGES = (1, 10, 50)  # numbers of steps, from coarse to fine; the last one only has to be fine enough for the spline
_ITERATIONS = 4  # a call: a few milliseconds
_MOST_CALLS = 15  # for one of the stages
_LEVER = 0.1  # [m] of the points that stand for the target's orientation
_LIGHT = 1e-3  # weight of the target's points, against 1 where a reward prefers nothing


@dataclass(frozen=True, eq=False)
class RewardTask:
    """What moves, under which reward, in what time."""

    points: HeldPoints  # the reward's K keypoints, in the end of the chain
    reward: Reward
    duration: float  # T [s]


@dataclass(frozen=True, eq=False)
class RewardState:
    """What the reward says of a state on the way."""

    keypoints: np.ndarray  # (K, 3) in the base frame [m]
    weight: np.ndarray  # (K, 3) what it costs here to move each keypoint along each axis of the base frame
    progress: float  # s, 0 to 1
    cost: float  # c(s) of the planned path [m^2]


@dataclass(frozen=True, eq=False)
class RewardPath:
    """A path of least cost, in time."""

    task: RewardTask
    goal: np.ndarray  # (K, 3) of the keypoints in the base frame [m]
    joints: SplinePath
    keypoints: np.ndarray  # (steps + 1, K, 3) planned, in the base frame [m]
    weight: np.ndarray  # (steps, K, 3) planned

    @property
    def duration(self) -> float:
        """How long it takes [s]."""
        return self.joints.duration

    @cached_property
    def cost(self) -> np.ndarray:
        """c(s) after every step, shape (steps + 1,) [m^2]."""
        steps, K = self.weight.shape[:2]
        x = (self.keypoints - self.goal).reshape(steps + 1, -1)  # (steps + 1, D)
        middle = (x[1:] + x[:-1]) / 2
        found = self.task.reward.weights(middle, (np.arange(steps) + 0.5) / steps)
        motion = steps * found.weight * np.diff(x, axis=0) ** 2  # (steps, D)
        place = found.pull * (middle - found.waypoint) ** 2 / steps
        each = (motion + place).sum(axis=1) / K
        return np.concatenate([[0.0], np.cumsum(each)])

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        return self.joints.at(time)

    def state(self, q: np.ndarray, time: float) -> RewardState:
        """Return what the reward says of measured positions, shape (n,), at ``time`` [s] after the start."""
        progress = self.joints.progress(time)
        keypoints = self.task.points.at(q[None])[0]
        found = self.task.reward.weights((keypoints - self.goal).reshape(1, -1), np.array([progress]))
        cost = float(np.interp(progress, np.linspace(0.0, 1.0, len(self.cost)), self.cost))
        return RewardState(keypoints, found.weight.reshape(-1, 3), progress, cost)


class RewardPathPlanner:
    """Plans the path of least cost to a target: coarse first, a few iterations a step.

    Args:
        ik: inverse kinematics of the chain.
        target: where its end shall be. Where the orientation does not matter, the keypoints keep that of now.
        allowed: distance from it at the end of the path.
        bounds: of the motion.
        task: reward, keypoints and duration.
        q: where the path begins, shape (n,) [rad] or [m].

    Raises:
        ChainError: ``q`` does not fit the chain.
        KinematicsError: a joint on the way to the keypoints has no motor.
    """

    def __init__(
        self, ik: InverseKinematics, target: Target, allowed: PoseError, bounds: Bounds, task: RewardTask, q: np.ndarray
    ) -> None:
        passive = sorted(set(ik.chain.joint_names) - set(ik.chain.actuated_names))
        if passive:
            raise KinematicsError(f"no motor moves {passive}: a reward moves what is rigid to the arm")
        self._ik, self._target, self._allowed, self._bounds, self._task = ik, target, allowed, bounds, task
        added = np.zeros((1, 3)) if target.position_only else _LEVER * np.eye(3)  # in the end of the chain
        points = np.concatenate([task.points.position_ee, added])
        T_base_goal = np.array(target.T_base_target)
        if target.position_only:
            T_base_goal[:3, :3] = ik.chain.forward(q)[:3, :3]
        goal = points @ T_base_goal[:3, :3].T + T_base_goal[:3, 3]
        reward = _WithTarget(task.reward, 3 * len(added))
        self._problem = PathProblem(HeldPoints(ik.chain, points), reward, q, goal, np.eye(3))
        self._config = _with_more_points(
            PlannerConfig(iterations=_ITERATIONS), len(task.points.position_ee), len(points)
        )
        self._states = np.stack([q, q])
        self._stage = self._calls = 0

    def step(self, q: np.ndarray) -> RewardPath | None:
        """See `PathPlanner`; the path begins where the arm was when this was made."""
        self._calls += 1
        try:
            found = plan(self._problem, _STAGES[self._stage], self._config, start=self._states)
        except PlanningError as error:
            raise NoPathError(f"no path under the reward: {error}") from error
        self._states = found.q
        if not found.converged and self._calls < _MOST_CALLS:
            return None
        if self._stage == len(_STAGES) - 1:
            return self._checked(found)
        self._stage, self._calls = self._stage + 1, 0
        return None

    def _checked(self, found: Plan) -> RewardPath:
        """Return the path, or raise NoPathError where it misses the target or its duration is too short."""
        ik, duration = self._ik, self._task.duration
        states = np.clip(found.q, ik.lower, ik.upper)  # the planner keeps limits softly
        error = self._target.error(ik.chain.forward(states[-1]))
        if not error.within(self._allowed.position, self._allowed.orientation):
            where = f"{self._target.T_base_target[:3, 3].round(4).tolist()} in {ik.chain.base_link!r}"
            kept = " with the present orientation" if self._target.position_only else ""
            raise NoPathError(f"the path of least cost to {where}{kept} ends {missed(error, self._allowed)}")
        joints = SplinePath.through(states[:, ik.active], duration)
        shortest = joints.shortest(self._bounds)
        if shortest.duration > duration:
            raise NoPathError(
                f"a duration of {duration:.2f} s is too short for the {shortest.bound} of joint "
                f"{ik.chain.actuated_names[shortest.joint]!r}; the shortest possible is {shortest.duration:.2f} s"
            )
        K = len(self._task.points.position_ee)
        return RewardPath(self._task, self._problem.goal[:K], joints, found.keypoints[:, :K], found.weight[:, :K])


def _with_more_points(config: PlannerConfig, known: int, all_points: int) -> PlannerConfig:
    """Return the configuration in which joints count as before: the keypoints' costs are means over all points."""
    share = known / all_points
    return replace(config, joint_weight=share * config.joint_weight, limit_weight=share * config.limit_weight)


@dataclass(frozen=True)
class _WithTarget:
    """A reward, and points it does not know."""

    reward: Reward
    more: int  # coordinates of those points, the last ones

    def weights(self, relative: np.ndarray, progress: np.ndarray) -> Weights:
        """See `ideomotor.rewards.weights.Reward`."""
        n, d = relative.shape
        known = d - self.more
        found = self.reward.weights(relative[:, :known], progress)
        weight, gradient = np.full((n, d), _LIGHT), np.zeros((n, d, d))
        weight[:, :known], gradient[:, :known, :known] = found.weight, found.gradient
        pull, waypoint = np.zeros((n, d)), np.zeros((n, d))
        pull[:, :known], waypoint[:, :known] = found.pull, found.waypoint
        return Weights(weight, gradient, pull, waypoint)
