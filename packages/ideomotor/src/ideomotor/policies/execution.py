r"""A learned controller run step by step: where in its motion it is, and how far the robot is from what was predicted.

The prediction error of a joint is filtered, :math:`e \leftarrow e + a\,(|v_{t+1} - \hat v_{t+1}| - e)`. Above
``slow_threshold`` an arm goes along its motion slower, by the ratio of the two; a robot that may fall cannot go
slower: it is where its motion is, or falls. Above ``hold_threshold`` the run is over.
"""

import math
from dataclasses import dataclass

import numpy as np

from ideomotor.config import Config, value
from ideomotor.policies.alignment import Alignment
from ideomotor.policies.goals import position_error
from ideomotor.policies.learned import LearnedController
from ideomotor.policies.motion import Motion
from ideomotor.policies.posture import PostureHold

CONTACT = 0.5  # [N] upward force of a contact link that is on the ground
_SLOWEST = 0.2  # of the motion's own pace
_STANDS = 0.01  # [m] a motion that goes no farther goes nowhere


@dataclass(frozen=True, kw_only=True)
class ExecutionConfig(Config):
    """When a run goes slower, and when it ends."""

    slow_threshold: float = value(
        0.0, "Prediction error above which an arm goes slower [rad/s]; 0: never.", ge=0.0, le=1000.0
    )
    hold_threshold: float = value(
        0.0, "Prediction error above which a run ends and the robot is held [rad/s]; 0: never.", ge=0.0, le=1000.0
    )
    filter_time: float = value(0.04, "Time constant of the prediction error that is compared [s].", ge=0.0, le=10.0)


@dataclass(frozen=True)
class Summary:
    """What came of a run."""

    steps: int  # from the first state to the last, those that nobody saw included
    position_error: float  # mean length over the steps [rad, m]; 0 without a motion
    max_prediction_error: float  # filtered, of the worst joint [rad/s] or [m/s]
    displacement_ratio: float  # along the motion's, by the motion's; 0 where that goes nowhere
    contact_agreement: float  # share of links and steps
    base_height: tuple[float, float]  # [m]


class Execution:
    """One run of a controller along its motion, or of a hold about a posture.

    Call `observe` with every state, then `effort`, then, when the effort is on its way, `predict`.

    Args:
        controller: what is run.
        config: thresholds.
        steps: of the motion.
        rate: of the states [Hz].
        noise: exploration, standard deviation by ``limit``.
        limit: of the efforts, shape (n,).
        seed: of the exploration.
    """

    def __init__(
        self,
        controller: LearnedController | PostureHold,
        config: ExecutionConfig,
        *,
        steps: int,
        rate: float,
        noise: float,
        limit: np.ndarray,
        seed: int,
    ) -> None:
        self.controller, self.config, self.steps = controller, config, steps
        self.learned = controller if isinstance(controller, LearnedController) else None
        self.motion: Motion | None = self.learned.motion if self.learned else None
        self.phase, self._pace = 0.0, 1.0  # steps of the motion, of it a step of the robot
        self.count, self._periods = 0, 0  # states that were answered; periods since the first
        self._noise = noise * np.random.default_rng(seed).normal(size=(_most(steps), len(limit))) * limit
        self._limit, self.n = limit, len(limit)
        self._filter = 1.0 - math.exp(-1.0 / (rate * config.filter_time)) if config.filter_time > 0.0 else 1.0
        self.prediction_error, self._worst = np.zeros(self.n), 0.0
        self._expected: np.ndarray | None = None
        self._alignment: Alignment | None = None
        self._log: list[tuple[float, np.ndarray, np.ndarray]] = []

    @property
    def finished(self) -> bool:
        """Whether the state that was observed last is the run's last one."""
        return self.phase >= self.steps

    @property
    def exceeds(self) -> bool:
        """Whether the model was wrong by more than `ExecutionConfig.hold_threshold`."""
        return 0.0 < self.config.hold_threshold < float(self.prediction_error.max())

    def observe(self, q: np.ndarray, v: np.ndarray, force: np.ndarray, *, periods: int = 1) -> None:
        """Take in a state: q (nq,), v (nv,), force (3c,), in the frame ``odom``.

        Args:
            q: positions.
            v: velocities.
            force: of the contacts [N].
            periods: since the last state; after more than one the motion is where it would be without the gap, and
                nothing is compared with what was predicted.
        """
        if self._log:
            self.phase += self._pace * periods
            self._periods += periods
        q, force = q[None], force[None]
        if self.motion is not None and self.motion.floating_base:
            if self._alignment is None:
                self._alignment = Alignment.of(q[0], self.motion)
            q, force = self._alignment.apply(q, force)
        self._q, self._v, self._force = q, v[None], force
        self._log.append((self.phase, q[0], force[0]))
        # The state after the first command may be the answer to what held the robot before it.
        if self._expected is not None and periods == 1 and self.count > 1:
            self._compare(np.abs(v[-self.n :] - self._expected))
        self._expected = None

    def _compare(self, error: np.ndarray) -> None:
        self.prediction_error += self._filter * (error - self.prediction_error)
        worst = float(self.prediction_error.max())
        self._worst = max(self._worst, worst)
        slow = self.config.slow_threshold
        if slow > 0.0 and self.motion is not None and not self.motion.floating_base:
            self._pace = min(max(slow / max(worst, 1e-9), _SLOWEST), 1.0)

    def effort(self) -> np.ndarray:
        """Return the efforts (n,) that answer the state; not finite where a network gave NaN."""
        effort = self._noiseless() + self._noise[self.count % len(self._noise)]
        self._effort = np.minimum(np.maximum(effort, -self._limit), self._limit)
        self.count += 1
        return self._effort

    def _noiseless(self) -> np.ndarray:
        if self.learned is None:
            return self.controller.effort(self._q, self._v)[0]  # type: ignore[call-arg]
        if self._pace == 1.0 and self.phase == int(self.phase):
            return self.learned.effort(int(self.phase), self._q, self._v, self._force)[0]
        return self._between()

    def _between(self) -> np.ndarray:
        """Return the effort of an arm between two states of the motion, or slower than it."""
        assert self.learned is not None
        motion = self.learned.motion
        now, _ = _interpolated(motion, self.phase)
        _, wanted = _interpolated(motion, self.phase + self._pace)
        wanted = self._pace * wanted + self.learned.position_gain * (now - self._q[0])
        return self.learned.effort_towards(wanted[None], self._force, self._q, self._v, self._force)[0]

    def predict(self) -> None:
        """Predict the next state, to be compared with it."""
        if self.learned is not None:
            velocity, _ = self.learned.predict(self._q, self._v, self._force, self._effort[None])
            self._expected = velocity[0, -self.n :]

    def target(self) -> np.ndarray | None:
        """Return where the motion is now, shape (nq,), in the frame ``odom``; None without one."""
        if self.motion is None:
            return None
        q = _interpolated(self.motion, self.phase)[0]
        return q if self._alignment is None else self._alignment.inverse().apply(q[None], np.zeros((1, 0)))[0][0]

    def summary(self) -> Summary:
        """Return what came of the run so far; the robot is judged by the states after the first."""
        done = self._log[1:]
        heights = [row[1][2] for row in self._log] if len(self._log) and self._log[0][1].size > self.n else [0.0]
        base = float(min(heights)), float(max(heights))
        if self.motion is None or not done:
            return Summary(self._periods, 0.0, self._worst, 0.0, 1.0, base)
        motion, q = self.motion, np.array([row[1] for row in done])
        target = np.array([_interpolated(motion, row[0])[0] for row in done])
        error = np.linalg.norm(position_error(q, target, floating_base=motion.floating_base), axis=1)
        return Summary(
            self._periods,
            float(error.mean()),
            self._worst,
            _displacement(motion, self._log[0][1], q[-1], self.steps) if motion.floating_base else 0.0,
            self._agreement(motion),
            base,
        )

    def _agreement(self, motion: Motion) -> float:
        if not motion.contact_links:
            return 1.0
        done = self._log[1:]
        wanted = motion.force[[min(int(row[0]), motion.steps) for row in done], 2::3] > CONTACT
        return float((wanted == (np.array([row[2] for row in done])[:, 2::3] > CONTACT)).mean())


def _most(steps: int) -> int:
    return math.ceil(steps / _SLOWEST) + 1


def _interpolated(motion: Motion, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """Return position (nq,) and velocity (nv,) at a step that need not be whole for an arm."""
    i = min(int(phase), motion.steps)
    share = phase - i
    if share <= 0.0 or i == motion.steps:
        return motion.q[i], motion.v[i]
    return tuple(a[i] + share * (a[i + 1] - a[i]) for a in (motion.q, motion.v))


def _displacement(motion: Motion, start: np.ndarray, end: np.ndarray, steps: int) -> float:
    wanted = motion.q[min(steps, motion.steps), :2] - motion.q[0, :2]
    length = float(np.linalg.norm(wanted))
    return float((end[:2] - start[:2]) @ wanted / length**2) if length > _STANDS else 0.0
