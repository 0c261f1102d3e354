"""Our controllers and their ablations: `TASK_perf_error*`, what the last iteration's errors were, how Solo12 walks.

Also who differs from ours in one thing only and learns in the same loop: the fully neural forward model, and the
regression of efforts on observed next states (inverse dynamics).
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.forward_model_error import computed_torque
from benchmarks.forward_model_error.cases import Case, Judged, Options, open_case
from benchmarks.runner import Cases
from ideomotor.policies.learned import LearnedController
from ideomotor_learn.policies.losses import EACH, OBSERVED, step_errors
from ideomotor_learn.policies.samples import Samples, join
from ideomotor_learn.policies.training import ControllerConfig, ControllerTraining

OURS, INVERSE_DYNAMICS = "", "_inverse_dynamics"
ABLATION: Mapping[str, dict[str, object]] = {  # by what its keys end with
    OURS: {"goals": EACH},
    "_task_only": {"goals": EACH, "prediction_weight": 0.0},
    "_published": {"goals": OBSERVED},
    "_published_task_only": {"goals": OBSERVED, "prediction_weight": 0.0},
}
_SHORT = ("solo12_step", "solo12_stand")  # whose published form is not run, for want of time
RELATIVES: Mapping[str, dict[str, object]] = {"_neural_model": {"semi_parametric": False}, INVERSE_DYNAMICS: {}}
STEP_ERRORS = (  # in the unit of `StepErrors`
    *("_task_error", "_prediction_error", "_step_error", "_believed_error"),
    *("_first_step_error", "_first_believed_error"),
)
WALK = "solo12_walk"


def variants(task: str) -> tuple[str, ...]:
    """Return which variants of the loss a task is run with."""
    return tuple(ABLATION)[: 2 if task in _SHORT else None]


class ObservedTraining(ControllerTraining):
    """The library's learning, and what its controller is believed to do."""

    @torch.no_grad()
    def believed_error(self) -> float:
        """Return the mean task error that the model expects of the controller, on all steps that both learned from.

        The controller is told what it was told while learning; unit as of `ideomotor_learn.policies.losses.StepErrors`.
        """
        assert self._scales is not None
        s = join(self._samples[: self._learned])
        observed = self.config.goals == OBSERVED
        velocity, force = (s.next_velocity, s.next_force) if observed else (s.goal_velocity, s.goal_force)
        effort = self.controller(s.state, velocity - s.velocity, force, self._scales)
        believed = self.model(s.state, s.velocity, s.free, s.per_effort, effort, self._scales)
        there = replace(s, effort=effort, next_velocity=believed[0], next_force=believed[1])
        return float(step_errors(self.model, there, self._scales).performance.mean())


class InverseDynamicsTraining(ObservedTraining):
    """The same loop and network, but the controller learns which effort had led to the next state that was observed."""

    def _update_controller(self, batch: Samples) -> float:
        assert self._scales is not None
        s, scales = batch, self._scales
        effort = self.controller(s.state, s.next_velocity - s.velocity, s.next_force, scales)
        loss = ((effort - s.effort) / scales.effort).square().mean()
        self._controller_optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.controller.parameters(), 1.0)
        self._controller_optimiser.step()
        return loss.item()


@dataclass(frozen=True)
class Learned:
    """A run of the iterations."""

    training: ObservedTraining
    first: Judged  # after the first iteration's learning, from the hold alone
    first_believed_error: float  # of the same controller
    last: Judged


def learn(case: Case, seed: int, iterations: int, variant: str = OURS) -> Learned:
    """Run the iterations: learn, export, run the exported controller once with exploration, add the episode.

    The last episode counts as data used, and only measures the last iteration's controller.
    """
    changes = {**ABLATION, **RELATIVES}[variant]
    config = ControllerConfig(seed=seed, noise=case.noise, **changes)  # type: ignore[arg-type]
    make = InverseDynamicsTraining if variant == INVERSE_DYNAMICS else ObservedTraining
    training = make(config, case.urdf, case.structure, case.motion)
    rng = np.random.default_rng([seed, 0])
    training.add_episode(case.hold(rng))
    first = None
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(iterations):
            training.fit()
            training.export(Path(folder, "controller"))
            controller = LearnedController.load(Path(folder, "controller"), case.urdf)
            first = first or (case.judge(controller.effort, seed), training.believed_error())
            training.add_episode(case.episode(controller.effort, case.steps, case.noise, rng))
    assert first is not None
    return Learned(training, *first, case.judge(controller.effort, seed))


def measure(options: Options, name: str, variant: str, seed: int) -> dict[str, Cases]:
    """Return the cases of one training."""
    torch.set_num_threads(1)
    case = open_case(options, name)
    learned = learn(case, seed, options.iterations_of(name), variant)
    training, key = learned.training, f"{name}_perf_error{variant}"
    oldest, newest = training.history[0], training.history[-1]
    errors = (
        *(newest.task_error, newest.prediction_error, newest.performance_error, training.believed_error()),
        *(oldest.performance_error, learned.first_believed_error),
    )
    found = {key: learned.last.perf_error} | dict(zip([key + end for end in STEP_ERRORS], errors, strict=True))
    cases: dict[str, Cases] = {key: [(seed, value)] for key, value in found.items()}
    if variant != INVERSE_DYNAMICS:  # it minimises neither error
        cases["bound_holds_pct"] = [(seed, 100.0 * m.bound_holds) for m in learned.training.history]
    if variant == OURS:
        cases |= _of_ours(options, case, learned, seed)
    return cases


def _of_ours(options: Options, case: Case, learned: Learned, seed: int) -> dict[str, Cases]:
    last, name = learned.last, case.task.name
    cases: dict[str, Cases] = {"transitions": [(seed, float(learned.training.transitions))]}
    if name == options.arm:
        laws = computed_torque.laws(case)
        errors = {law: case.judge(policy, seed).perf_error for law, policy in laws.items()}
        cases |= {f"{name}_perf_error_{law}": [(seed, error)] for law, error in errors.items()}
        cases["arm_computed_torque_over_perf"] = [(seed, min(errors.values()) / last.perf_error)]
        cases["arm_perf_first_over_last"] = [(seed, learned.first.perf_error / last.perf_error)]
    if name == WALK:
        cases |= {
            "solo12_success_pct": [(seed, 100.0 * float(x)) for x in last.success],
            "solo12_contact_agreement_pct": [(seed, 100.0 * float(x)) for x in last.contact_agreement],
            "solo12_displacement_ratio": [(seed, float(x)) for x in last.displacement_ratio],
        }
    return cases
