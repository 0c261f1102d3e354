"""The keypoint_detector node: images in, keypoints and an annotated image out."""

from pathlib import Path

import numpy as np
import pytest
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image

from ideomotor_nodes import convert, convert_body
from ideomotor_nodes.qos import SENSOR
from tests.graph.camera_rig import OPTICAL, CameraRig
from tests.graph.conftest import Graph
from tests.graph.small_detector import HEIGHT, NAMES, UV, WIDTH


def test_keypoints_carry_the_images_stamp_and_frame(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()
    msg = rig.look(metres=0.9)
    found = convert_body.keypoints(msg)
    assert found.names == NAMES
    np.testing.assert_allclose(found.uv, UV, atol=1e-5)
    np.testing.assert_allclose(found.depth, 0.9, atol=1e-5)  # millimetres became metres
    assert msg.header.frame_id == OPTICAL
    assert 0.0 <= rig.now() - found.stamp < 2.0


def test_depth_may_come_first_and_a_little_apart(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()
    rig.look()
    rig.graph.spin(0.1)
    rig.keypoints.clear()
    stamp = rig.now()
    rig.depth.publish(rig.depth_image(stamp + 0.003))
    rig.graph.spin(0.1)
    rig.colour.publish(rig.colour_image(stamp))
    graph.spin_until(lambda: rig.keypoints)
    assert convert.seconds(rig.keypoints[-1].header.stamp) == pytest.approx(stamp, abs=1e-6)


def test_annotated_image_only_when_somebody_looks(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()
    rig.look()
    images = graph.collect(Image, "keypoint_detector/image_annotated", SENSOR)
    graph.spin_until(lambda: rig.node.count_subscribers("keypoint_detector/image_annotated") > 0)
    graph.spin_until(lambda: rig.look() and images)
    assert (images[-1].width, images[-1].height, images[-1].encoding) == (WIDTH, HEIGHT, "rgb8")
    plain, drawn = convert.rgb_image(rig.colour_image(0.0)), convert.rgb_image(images[-1])
    assert (plain != drawn).any(axis=-1).mean() > 0.02


def test_detection_time_and_drops_are_reported(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()
    rig.look()
    before = int(rig.report()["total dropped"])
    # two pairs too many wait when the detector looks: the older ones are dropped
    for offset in np.arange(SENSOR.depth + 2) / 30:
        stamp = rig.now() + offset
        rig.node._on_colour(rig.colour_image(stamp))
        rig.node._on_depth(rig.depth_image(stamp))
    graph.spin(0.05)
    assert int(rig.report()["total dropped"]) == before + 2
    assert rig.look()
    graph.spin_until(lambda: "mean detection time [s]" in (rig.look() and rig.report()))


def test_lifecycle_can_be_repeated_and_inactive_is_silent(graph: Graph, tmp_path: Path) -> None:
    rig = CameraRig(graph, tmp_path)
    rig.send_info()
    rig.look()
    assert rig.node.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    graph.spin(0.1)
    rig.keypoints.clear()
    stamp = rig.now()
    rig.colour.publish(rig.colour_image(stamp))
    rig.depth.publish(rig.depth_image(stamp))
    graph.spin(0.3)
    assert not rig.keypoints
    assert rig.node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert rig.node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert rig.node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    graph.spin_until(lambda: rig.info.get_subscription_count() > 0)
    rig.send_info()
    rig.look()
