"""A waving motion that shows a held object from many sides and shakes it: sines on every joint, within all limits."""

from dataclasses import dataclass

import numpy as np

from ideomotor.body.chain import KinematicChain
from ideomotor.config import Config, value
from ideomotor.errors import IdeomotorError


class ExcitationError(IdeomotorError):
    """A waving motion that cannot be made around this configuration."""


@dataclass(frozen=True, kw_only=True)
class ExcitationConfig(Config):
    """The waving motion."""

    duration: float = value(3.0, "How long to wave [s].", ge=0.5, le=60.0)
    rate: float = value(100.0, "Samples a second [Hz].", ge=10.0, le=1000.0)
    roll_amplitude: float = value(1.2, "Amplitude of the last joint, which shows all sides [rad or m].", ge=0.0, le=3.0)
    wrist_amplitude: float = value(0.5, "Amplitude of the two joints before it [rad or m].", ge=0.0, le=3.0)
    arm_amplitude: float = value(0.1, "Amplitude of the joints before them [rad or m].", ge=0.0, le=3.0)
    slowest: float = value(0.2, "Lowest frequency [Hz].", ge=0.01, le=5.0)
    fastest: float = value(0.6, "Highest frequency [Hz].", ge=0.01, le=5.0)
    shake_amplitude: float = value(
        0.015, "Amplitude of the shake of the joints before the last three [rad or m].", ge=0.0, le=0.2
    )
    shake_slowest: float = value(2.0, "Lowest frequency of the shake [Hz].", ge=0.1, le=20.0)
    shake_fastest: float = value(3.5, "Highest frequency of the shake [Hz].", ge=0.1, le=20.0)
    velocity_share: float = value(0.5, "Share of the velocity limit that may be used.", ge=0.01, le=1.0)
    limit_margin: float = value(0.05, "Distance kept from position limits [rad or m].", ge=0.0, le=1.0)


@dataclass(frozen=True)
class Trajectory:
    """Samples of a joint trajectory; starts and ends at rest in the same configuration."""

    time: np.ndarray  # (N,) from 0 [s]
    position: np.ndarray  # (N, n) [rad] or [m]
    velocity: np.ndarray  # (N, n)

    def at(self, time: float) -> np.ndarray:
        """Return the position at ``time`` [s], shape (n,); the ends hold outside."""
        return np.array([np.interp(time, self.time, column) for column in self.position.T])


def excitation_trajectory(
    chain: KinematicChain, q0: np.ndarray, rng: np.random.Generator, config: ExcitationConfig | None = None
) -> Trajectory:
    r"""Return a sum of sines with an envelope.

    :math:`q_j(t) = q_{0j} + a_j \, e(t) \frac12 \sum_{i=1}^2 \sin(2 \pi f_{ij} t + \varphi_{ij})`.

    The envelope e rises and falls smoothly within 0.4 s (or a quarter of a short motion). The last joint turns the
    object, c times to both sides: :math:`\pm a \sin \theta\,|\sin \theta|`, :math:`\theta = 2 \pi c t / T`.
    Which end of a hammer's head is its face shows from some sides only. On top, the joints before the last three shake:
    what hangs loose and sags by d under its weight swings most at :math:`\sqrt{g / d} / 2 \pi`, 2.5 to 3.5 Hz for 2 to
    4 cm, and much faster than a detector's error changes with the view. Each joint's motion is scaled until it stays
    inside the position limits (margin kept) and its share of the velocity limit.

    Raises:
        ExcitationError: if ``q0`` has the wrong shape, is not finite or is outside the limits.
    """
    config = config or ExcitationConfig()
    q0 = np.asarray(q0, dtype=float)
    if q0.shape != (chain.n,) or not np.isfinite(q0).all():
        raise ExcitationError(f"q0={q0.tolist()}, expected {chain.n} finite positions of {list(chain.joint_names)}")
    for prefix in ("", "shake_"):
        slowest, fastest = getattr(config, f"{prefix}slowest"), getattr(config, f"{prefix}fastest")
        if fastest < slowest:
            raise ExcitationError(f"{prefix}fastest={fastest} is below {prefix}slowest={slowest}")
    free = np.minimum(q0 - chain.lower, chain.upper - q0)  # (n,)
    if (free < 0).any():
        name = chain.joint_names[int(np.argmin(free))]
        raise ExcitationError(f"q0={q0.tolist()} is outside the limits of {name!r}")
    n, samples = chain.n, round(config.duration * config.rate) + 1
    time = np.arange(samples) / config.rate
    actuated = np.isin(chain.joint_names, chain.actuated_names)
    from_last = (actuated.sum() - np.cumsum(actuated)) + ~actuated * n  # 0 for the last actuated joint
    last, wrist = from_last == 0, from_last < 3
    amplitude = np.where(last, config.roll_amplitude, np.where(wrist, config.wrist_amplitude, config.arm_amplitude))
    frequency = rng.uniform(config.slowest, config.fastest, size=(2, n))  # [Hz]
    phase = rng.uniform(0, 2 * np.pi, size=(2, n))
    turns = max(1, round(config.slowest * config.duration))
    ramp = min(0.4, config.duration / 4)
    envelope = _smooth_step(np.minimum(time, time[-1] - time) / ramp)[:, None]  # (N, 1)
    wave = 0.5 * np.sin(2 * np.pi * frequency * time[:, None, None] + phase).sum(1) * envelope  # (N, n)
    turn = np.sin(2 * np.pi * turns * time / time[-1])[:, None]
    wave[:, last] = rng.choice((-1.0, 1.0)) * turn * np.abs(turn)
    frequency, phase = rng.uniform(config.shake_slowest, config.shake_fastest, size=n), rng.uniform(0, 2 * np.pi, n)
    shake = np.sin(2 * np.pi * frequency * time[:, None] + phase) * envelope  # (N, n)
    motion = (amplitude * wave + config.shake_amplitude * ~wrist * shake) * actuated
    speed = np.gradient(motion, 1 / config.rate, axis=0)
    reach, fastest = np.abs(motion).max(0) + 1e-12, np.abs(speed).max(0) + 1e-12
    scale = np.minimum(
        np.maximum(free - config.limit_margin, 0.0) / reach, config.velocity_share * chain.velocity_limit / fastest
    )
    scale = np.minimum(scale, 1.0)
    return Trajectory(time, q0 + scale * motion, scale * speed)


def _smooth_step(x: np.ndarray) -> np.ndarray:
    """Return 6 x^5 - 15 x^4 + 10 x^3 on [0, 1]: position, velocity and acceleration start and end smoothly."""
    x = np.clip(x, 0.0, 1.0)
    return x**3 * (x * (6 * x - 15) + 10)
