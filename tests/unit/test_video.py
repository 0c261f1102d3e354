"""Videos: as many images as the motion lasts, the robot in them, the ghost where the target is."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ideomotor_sim.errors import SimulationError
from ideomotor_sim.video import VideoConfig, write_video
from tests.unit.test_effort_world import ARM, IIWA, SOLO, STANCE, effort_config, solo_config

SMALL = VideoConfig(width=160, height=120)


def images(path: Path) -> list[np.ndarray]:
    video, result = cv2.VideoCapture(str(path)), []
    assert video.isOpened()
    while (read := video.read())[0]:
        result.append(read[1])
    video.release()
    return result


def walk(count: int) -> np.ndarray:
    """Return a stance that moves forward, shape (T, 19)."""
    q = np.tile(np.r_[0.0, 0.0, 0.24, 0.0, 0.0, 0.0, 1.0, STANCE], (count, 1))
    q[:, 0] = np.linspace(0.0, 0.3, count)
    return q


@pytest.mark.parametrize(("speed", "expected"), [(1.0, 20), (0.5, 40), (2.0, 10)])
def test_it_lasts_as_long_as_the_motion(tmp_path: Path, speed: float, expected: int) -> None:
    path, config = tmp_path / "walk.mp4", VideoConfig(width=160, height=120, speed=speed)
    assert write_video(path, SOLO, solo_config(), walk(200), 250.0, config=config) == expected
    frames = images(path)
    assert len(frames) == expected
    assert frames[0].shape == (120, 160, 3)
    assert np.abs(frames[0].astype(int) - frames[-1]).max() > 50  # it moves


def test_the_ghost_is_seen_where_it_differs(tmp_path: Path) -> None:
    q = walk(20)
    away = q.copy()
    away[:, 1] += 0.15
    pictures = []
    for i, target in enumerate((None, away)):
        write_video(tmp_path / f"{i}.mp4", SOLO, solo_config(), q, 250.0, target=target, config=SMALL)
        pictures.append(images(tmp_path / f"{i}.mp4")[0].astype(int))
    bluer = (pictures[1][..., 0] - pictures[1][..., 2]) - (pictures[0][..., 0] - pictures[0][..., 2])  # BGR
    assert (bluer > 40).sum() > 100


def test_a_short_target_stays_at_its_end(tmp_path: Path) -> None:
    config = effort_config(joints=ARM)
    q = np.linspace(np.zeros(7), np.full(7, 0.5), 50)
    assert write_video(tmp_path / "a.mp4", IIWA, config, q, 250.0, target=q[:10], config=SMALL) == 5
    assert len(images(tmp_path / "a.mp4")) == 5


def test_bad_input_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SimulationError, match="q has no states"):
        write_video(tmp_path / "a.mp4", SOLO, solo_config(), np.zeros((0, 19)), 250.0, config=SMALL)
    with pytest.raises(SimulationError, match="expected 19 finite numbers"):
        write_video(tmp_path / "a.mp4", SOLO, solo_config(), np.zeros((5, 18)), 250.0, config=SMALL)
    with pytest.raises(SimulationError, match=r"rate=0\.0"):
        write_video(tmp_path / "a.mp4", SOLO, solo_config(), walk(5), 0.0, config=SMALL)
    with pytest.raises(SimulationError, match="cannot be written as a video"):
        write_video(tmp_path / "nowhere" / "a.mp4", SOLO, solo_config(), walk(5), 250.0, config=SMALL)
