"""Cameras and artefacts that are wrong: named, nothing published, nothing ends; good images work afterwards."""

import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import CameraInfo, Image

from ideomotor.body.camera import Intrinsics
from ideomotor_nodes import convert
from ideomotor_nodes.keypoint_detector import KeypointDetectorNode
from tests.graph.camera_rig import CAMERA, OPTICAL, CameraRig
from tests.graph.conftest import Graph
from tests.graph.small_detector import write_small_detector

Pair = tuple[Image, Image]


def other_size(rig: CameraRig, stamp: float) -> Pair:
    return rig.colour_image(stamp), rig.depth_image(stamp, size=(24, 32))


def wrong_colour_encoding(rig: CameraRig, stamp: float) -> Pair:
    colour = rig.colour_image(stamp)
    colour.encoding = "yuv422"
    return colour, rig.depth_image(stamp)


def wrong_depth_encoding(rig: CameraRig, stamp: float) -> Pair:
    depth = rig.depth_image(stamp)
    depth.encoding = "8UC1"
    return rig.colour_image(stamp), depth


def truncated(rig: CameraRig, stamp: float) -> Pair:
    colour = rig.colour_image(stamp)
    colour.data = colour.data[:100]
    return colour, rig.depth_image(stamp)


def empty(rig: CameraRig, stamp: float) -> Pair:
    colour = Image(encoding="rgb8")
    colour.header = rig.colour_image(stamp).header
    return colour, rig.depth_image(stamp)


def late(rig: CameraRig, stamp: float) -> Pair:
    return rig.colour_image(stamp - 5.0), rig.depth_image(stamp - 5.0)


def from_the_future(rig: CameraRig, stamp: float) -> Pair:
    return rig.colour_image(stamp + 5.0), rig.depth_image(stamp + 5.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (other_size, "depth (24, 32): expected the same size"),
        (wrong_colour_encoding, "encoding 'yuv422', expected one of"),
        (wrong_depth_encoding, "encoding '8UC1', expected 16UC1"),
        (truncated, "image has 100 bytes, expected"),
        (empty, "image 0x0"),
        (late, "s old, limit 0.5 s"),
        (from_the_future, "s old, limit 0.5 s"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_bad_images_are_named_and_skipped(
    graph: Graph, tmp_path: Path, make: Callable[[CameraRig, float], Pair], message: str
) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()

    def warned() -> bool:
        colour, depth = make(rig, rig.now())
        rig.colour.publish(colour)
        rig.depth.publish(depth)
        return any(message.split(",")[0] in warning for warning in rig.warnings)

    graph.spin_until(warned, what=f"a warning with {message!r}, not {rig.warnings}")
    assert not rig.keypoints
    rig.look()


def test_colour_and_depth_of_different_time(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()

    def warned() -> bool:
        stamp = rig.now()
        rig.colour.publish(rig.colour_image(stamp))
        rig.depth.publish(rig.depth_image(stamp - 0.1))
        return any("do not fit together" in warning for warning in rig.warnings)

    graph.spin_until(warned, what="the warning")
    assert not rig.keypoints
    rig.look()


def test_no_depth_at_all(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()

    def warned() -> bool:
        rig.colour.publish(rig.colour_image(rig.now()))
        return any("no depth image arrives" in warning for warning in rig.warnings)

    graph.spin_until(warned, what="the warning")


def uncalibrated() -> CameraInfo:
    return CameraInfo(width=CAMERA.width, height=CAMERA.height)


def of_another_camera() -> CameraInfo:
    return convert.camera_info_msg(Intrinsics(640, 480, 600.0, 600.0, 320.0, 240.0), 1.0, OPTICAL)


def distorted() -> CameraInfo:
    info = convert.camera_info_msg(CAMERA, 1.0, OPTICAL)
    info.d = [0.1, 0.0, 0.0, 0.0, 0.0]
    return info


@pytest.mark.parametrize(
    ("info", "message"),
    [
        (None, "no usable camera/color/camera_info"),
        (uncalibrated, "not calibrated"),
        (of_another_camera, "intrinsics are of a 640x480 image"),
        (distorted, "distortion"),
    ],
    ids=["missing", "uncalibrated", "of_another_camera", "distorted"],
)
def test_camera_info_that_does_not_help(
    graph: Graph, tmp_path: Path, info: Callable[[], CameraInfo] | None, message: str
) -> None:
    rig = CameraRig(graph, tmp_path)

    def warned() -> bool:
        if info is not None:
            rig.info.publish(info())
        stamp = rig.now()
        rig.colour.publish(rig.colour_image(stamp))
        rig.depth.publish(rig.depth_image(stamp))
        return any(message in warning for warning in rig.warnings)

    graph.spin_until(warned, what=f"a warning with {message!r}, not {rig.warnings}")
    assert not rig.keypoints
    rig.send_info()
    rig.look()


def corrupt(folder: Path) -> Path:
    artefact = write_small_detector(folder / "artefact")
    content = bytearray((artefact / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 0xFF
    (artefact / "model.onnx").write_bytes(content)
    return artefact


def foreign(folder: Path) -> Path:
    return write_small_detector(folder / "artefact", modality="reward")


def missing(folder: Path) -> Path:
    return folder / "nothing"


@pytest.mark.parametrize(("make", "message"), [(corrupt, "sha256"), (foreign, "reward"), (missing, "nothing")])
def test_artefact_that_cannot_be_used_fails_configure(
    graph: Graph,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    make: Callable[[Path], Path],
    message: str,
) -> None:
    node = graph.add(KeypointDetectorNode(parameter_overrides=[Parameter("artefact", value=str(make(tmp_path)))]))
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert message in capfd.readouterr().err


def test_viewers_port_in_use(domain: int, node_command: Callable[..., list[str]]) -> None:
    """Exit code 2, and the port is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = subprocess.run(node_command("viewer", port=port), capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert f"port {port} on 127.0.0.1 is in use" in done.stderr
