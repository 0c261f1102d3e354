"""The benchmark of controllers: its options, how it judges a policy, and what its cases begin with."""

import re
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks.forward_model_error import __main__ as command
from benchmarks.forward_model_error import computed_torque, ours, ticks
from benchmarks.forward_model_error.cases import TASKS, Case, CaseError, Judged, Options, open_case, with_noise
from benchmarks.forward_model_error.jobs import run_jobs
from ideomotor.policies.motion import Motion

ARM = Options(tasks=("arm_track",), iterations=1, processes=1)


@pytest.fixture(scope="module")
def arm() -> Case:
    return open_case(ARM, "arm_track")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seeds", "-1"], r"--seeds \[-1\].*expected integers of 0"),
        (["--task", "arm_throw"], "invalid choice: 'arm_throw'"),
        (["--payload", "-2"], "--payload -2.0: expected a number of at least 0"),
        (["--friction", "nan"], "--friction nan: expected a number of at least 0"),
        (["--target", "x.npz"], "--target x.npz: expected one --task"),
        (["--task", "arm_track", "--target", "nowhere.npz"], "nowhere.npz"),
        (["--parts", "pet"], "invalid choice: 'pet'"),
    ],
    ids=lambda x: x[-2] if isinstance(x, list) else "",
)
def test_bad_options_are_refused_at_once(
    arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prog", *arguments])
    monkeypatch.setattr(command, "run_benchmark", lambda *_: pytest.fail("measured nevertheless"))
    with pytest.raises(SystemExit) as stopped:
        command.main()
    assert stopped.value.code == 2
    assert re.search(message, capsys.readouterr().err)


def test_a_motion_of_another_robot_is_refused() -> None:
    with pytest.raises(CaseError, match="solo12_walk"):
        open_case(Options(target=Path("artefacts/motions/solo12_walk.npz")), "arm_track")


def test_options_change_what_the_nominal_model_does_not_know() -> None:
    options = Options(payload=1.5, friction=0.4)
    arm, legs = options.task("arm_track"), options.task("solo12_walk")
    assert (arm.payload, arm.joint_friction) == (1.5, 0.4)
    assert (legs.payload, legs.contact_friction) == (1.5, 0.4)
    assert legs.joint_friction == Options().task("solo12_walk").joint_friction


@pytest.mark.parametrize(
    ("tasks", "arm"), [(TASKS, "arm_track"), (("arm_reach", "solo12_walk"), "arm_reach"), (("solo12_walk",), None)]
)
def test_keys_without_a_task_are_about_one_arm(tasks: tuple[str, ...], arm: str | None) -> None:
    assert Options(tasks=tasks).arm == arm


def walk(shift: float = 0.0, height: float = 0.25, lifted: int = 0) -> Judged:
    """A robot that goes forward as the target does, further, and with a foot in the air for some steps."""
    steps = 10
    q = np.zeros((steps + 1, 19))
    q[:, 0], q[:, 2], q[:, 6] = np.linspace(0.0, 0.1, steps + 1), 0.25, 1.0
    force = np.tile([0.0, 0.0, 6.0], (steps + 1, 4))
    names = tuple(map(str, range(12)))
    motion = Motion(250.0, names, names[:4], q, np.zeros((steps + 1, 18)), force)
    done, pressed = q.copy(), force.copy()
    done[:, 0] *= 1.0 + shift
    done[steps // 2, 2] = height
    pressed[1 : 1 + lifted, 2] = 0.0
    return Judged(motion, np.array([q, done]), np.array([force, pressed]))


def test_a_robot_that_does_what_it_shall_is_perfect() -> None:
    judged = walk()
    assert judged.perf_error == 0.0
    assert judged.success.all()
    np.testing.assert_allclose(judged.displacement_ratio, 1.0)
    np.testing.assert_allclose(judged.contact_agreement, 1.0)


def test_what_goes_wrong_is_seen() -> None:
    judged = walk(shift=0.5, height=0.19, lifted=4)
    assert judged.perf_error > 0.0
    assert judged.success.tolist() == [True, False]
    np.testing.assert_allclose(judged.displacement_ratio, [1.0, 1.5])
    np.testing.assert_allclose(judged.contact_agreement, [1.0, 1.0 - 4 / 40])


def test_judging_is_repeatable_and_on_starts_of_its_own(arm: Case) -> None:
    law = computed_torque.goal_law(arm)
    assert arm.judge(law, 50, 2).perf_error == arm.judge(law, 50, 2).perf_error
    trained = arm.episode(law, 5, 0.0, np.random.default_rng([50, 0])).q[0]
    assert not np.isclose(arm.starts(10, np.random.default_rng([50, 1]))[0], trained).all(axis=1).any()


def test_computed_torque_errs_by_what_its_model_does_not_know(arm: Case) -> None:
    light = open_case(Options(payload=0.0, friction=0.0), "arm_track")
    for name in computed_torque.laws(arm):
        loaded, free = (case.judge(computed_torque.laws(case)[name], 50, 2).perf_error for case in (arm, light))
        assert free < 0.7 * loaded, name


def test_exploration_stays_within_the_limits() -> None:
    limit = np.array([1.0, 2.0])
    effort = with_noise(np.tile(limit, (1000, 1)), 0.1, limit, np.random.default_rng(0))
    assert (np.abs(effort) <= limit).all()
    free = with_noise(np.zeros((5000, 2)), 0.1, limit, np.random.default_rng(0))
    np.testing.assert_allclose(free.std(0), [0.1, 0.2], rtol=0.1)


def test_one_training_gives_all_its_keys() -> None:
    cases = ours.measure(ARM, "arm_track", ours.OURS, 50)
    assert cases["transitions"] == [(50, 250.0)]
    assert cases["bound_holds_pct"] == [(50, 100.0)]
    errors = [cases[f"arm_track_perf_error{end}"][0][1] for end in ("", *ours.STEP_ERRORS)]
    assert all(np.isfinite(errors))
    assert min(errors) > 0.0
    laws = [cases[f"arm_track_perf_error_{law}"][0][1] for law in ("computed_torque", "computed_torque_goals")]
    assert cases["arm_computed_torque_over_perf"][0][1] <= min(laws) / errors[0]
    assert set(command.summarise(cases)) == set(cases)


def test_jobs_side_by_side_give_the_cases_of_all_in_order() -> None:
    jobs = [partial(dict, error=[(seed, float(seed))]) for seed in (1, 2, 3)]
    expected = {"error": [(1, 1.0), (2, 2.0), (3, 3.0)]}
    assert run_jobs(jobs, 1) == run_jobs(jobs, 2) == expected


def test_other_processes_find_what_they_shall_measure() -> None:
    """What is defined in the module that is run is `__main__`'s there, and nobody's in a process that is spawned."""
    parts = command.parts(Options(), command.PARTS, Path("x"), (0,))
    jobs = [job for part in parts.values() if part.func is command._side_by_side for job in part.args[0]]
    assert len(jobs) > 20
    assert not [job for job in jobs if job.func.__module__ == command.__name__]


def test_seeds_beyond_those_of_a_long_part_are_left_out() -> None:
    part = command.parts(Options(tasks=("arm_track",), processes=1), ("pets",), Path("x"), (0, 1, 2, 3))["pets"]
    assert part((3,)) == {}


def test_reports_of_runs_become_cases() -> None:
    runs = [
        {"steps": 200, "tick_p99": 0.0015, "missed_deadlines": 1},
        {"steps": 0, "tick_p99": 0.0, "missed_deadlines": 0},
    ]
    cases = ticks.cases_of(runs, 0)  # type: ignore[arg-type]
    assert cases == {"policy_tick_p99_ms": [(0, 1.5)], "policy_deadline_miss_pct": [(0, 0.5)]}
