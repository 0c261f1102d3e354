r"""Joint paths in time, from rest to rest.

With the minimum-jerk profile :math:`s` (Flash and Hogan 1985) of a motion that takes the time :math:`T`

.. math::
    s(\tau) = 10 \tau^3 - 15 \tau^4 + 6 \tau^5, \qquad \tau = t / T,

a straight path is :math:`q_0 + s\,(q_1 - q_0)`, and a planned one is :math:`q(s)`, a cubic spline through its states.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from scipy.interpolate import BSpline, make_interp_spline

_SAMPLES = 1001  # of a planned path, to find where it is fastest


@dataclass(frozen=True)
class Reference:
    """What the actuated joints shall do now."""

    position: np.ndarray  # (n_active,) [rad] or [m]
    velocity: np.ndarray  # (n_active,) [rad/s] or [m/s]


class TimedPath(Protocol):
    """Where the joints shall be, over time."""

    @property
    def duration(self) -> float:
        """How long it takes [s]."""
        ...

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        ...


@dataclass(frozen=True)
class Bounds:
    """What the joints may do on the way."""

    velocity: np.ndarray  # (n_active,) [rad/s] or [m/s]
    acceleration: float  # [rad/s^2] or [m/s^2]


@dataclass(frozen=True)
class JointPath:
    r"""Straight path between two configurations.

    .. math::
        T = \max_j \max\Big( \frac{15}{8} \frac{|q_1 - q_0|_j}{v_j},\;
                             \sqrt{\tfrac{10}{\sqrt 3} \frac{|q_1 - q_0|_j}{a}} \Big)

    so that :math:`v_j` and :math:`a` bound velocity and acceleration.
    """

    start: np.ndarray  # (n_active,)
    end: np.ndarray  # (n_active,)
    duration: float  # [s]

    @classmethod
    def plan(cls, start: np.ndarray, end: np.ndarray, max_velocity: np.ndarray, max_acceleration: float) -> "JointPath":
        """Return the fastest minimum-jerk path within the bounds, shapes (n_active,)."""
        distance = np.abs(end - start)
        by_velocity = 15.0 / 8.0 * distance / max_velocity
        by_acceleration = np.sqrt(10.0 / np.sqrt(3.0) * distance / max_acceleration)
        return cls(start, end, float(max(by_velocity.max(), by_acceleration.max(), 1e-3)))

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        now = minimum_jerk(time / self.duration)
        way = self.end - self.start
        return Reference(self.start + now.s * way, now.slope / self.duration * way)


@dataclass(frozen=True)
class ShortestDuration:
    """The joint that a path cannot be faster for."""

    duration: float  # [s]
    joint: int  # among the actuated ones
    bound: str  # "velocity" or "acceleration"


@dataclass(frozen=True, eq=False)
class SplinePath:
    """A path q(s) run through in a given time, s being the minimum-jerk profile."""

    spline: BSpline  # of s in [0, 1], values (n_active,) [rad] or [m]; its second derivative is continuous
    duration: float  # [s]

    @classmethod
    def through(cls, states: np.ndarray, duration: float) -> "SplinePath":
        """Return the path through states, shape (at least 4, n_active), evenly in s, that takes ``duration`` [s]."""
        return cls(make_interp_spline(np.linspace(0.0, 1.0, len(states)), states, k=3), duration)

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        now = minimum_jerk(time / self.duration)
        return Reference(self.spline(now.s), now.slope / self.duration * self.spline(now.s, 1))

    def progress(self, time: float) -> float:
        """Return s, 0 to 1, at ``time`` [s] after the start."""
        return float(minimum_jerk(time / self.duration).s)

    def shortest(self, bounds: Bounds) -> ShortestDuration:
        r"""Return the shortest duration within the bounds.

        .. math::
            T_v = \max_j \max_\tau \frac{|q'_j \dot s|}{v_j}, \qquad
            T_a = \max_j \max_\tau \sqrt{\frac{|q''_j \dot s^2 + q'_j \ddot s|}{a}}
        """
        now = minimum_jerk(np.linspace(0.0, 1.0, _SAMPLES))
        slope, curve = self.spline(now.s, 1), self.spline(now.s, 2)  # (N, n_active)
        velocity = slope * now.slope[:, None]  # for a duration of 1 s
        acceleration = curve * now.slope[:, None] ** 2 + slope * now.curve[:, None]
        durations = np.stack(
            [np.abs(velocity).max(0) / bounds.velocity, np.sqrt(np.abs(acceleration).max(0) / bounds.acceleration)]
        )  # (2, n_active)
        bound, joint = np.unravel_index(durations.argmax(), durations.shape)
        return ShortestDuration(float(durations.max()), int(joint), ("velocity", "acceleration")[bound])


@dataclass(frozen=True)
class BrakePath:
    """Stop from a moving reference with constant deceleration, all joints in the same time."""

    start: Reference
    duration: float  # [s]

    def at(self, time: float) -> Reference:
        """Return position and velocity at ``time`` [s] after the start."""
        t = min(max(time, 0.0), self.duration)
        v = self.start.velocity
        return Reference(self.start.position + v * (t - t**2 / (2.0 * self.duration)), v * (1.0 - t / self.duration))


@dataclass(frozen=True)
class Profile:
    """The minimum-jerk profile at one or more times, and its derivatives by tau."""

    s: np.ndarray
    slope: np.ndarray
    curve: np.ndarray


def minimum_jerk(tau: float | np.ndarray) -> Profile:
    """Return the profile at tau = t / T, of any shape; before 0 and after 1 it rests."""
    tau = np.clip(tau, 0.0, 1.0)
    return Profile(
        s=tau**3 * (10.0 - 15.0 * tau + 6.0 * tau**2),
        slope=30.0 * tau**2 * (1.0 - tau) ** 2,
        curve=60.0 * tau * (1.0 - tau) * (1.0 - 2.0 * tau),
    )
