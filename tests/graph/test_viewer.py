"""The browser viewer, seen by a browser: a headless Chromium takes its picture."""

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from geometry_msgs.msg import PoseStamped, TransformStamped
from nav_msgs.msg import Odometry
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import String
from tf2_msgs.msg import TFMessage

from ideomotor.body.urdf import UrdfError, description_sha256
from ideomotor.robot_visual import LinkTree, mesh_resolver, shapes_of
from ideomotor.viewer import PortInUseError, Viewer, ViewerConfig
from ideomotor_interfaces.msg import DescriptionStatus
from ideomotor_nodes import convert
from ideomotor_nodes.qos import LATCHED, SENSOR, STREAM, TF
from ideomotor_nodes.viewer import ViewerNode
from tests.graph.body_rig import BASE, CAMERA, OPTICAL, URDF, BodyRig
from tests.graph.conftest import Graph

SIZE = (1280, 900)
SCENE = np.s_[200:, : int(0.65 * SIZE[0])]  # rows, columns: left of the panel, below what the browser is told of WebGL
FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader", f"--window-size={SIZE[0]},{SIZE[1]}",
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def browser() -> str:
    name = next((name for name in ("chromium", "chromium-browser", "google-chrome") if shutil.which(name)), None)
    if name is None:
        pytest.fail("no browser for the screenshot: apt-get install chromium")
    return name


def screenshot(graph: Graph, url: str, folder: Path, seconds: float) -> np.ndarray:
    """Return what the browser shows after ``seconds`` of its own time, shape (H, W, 3) RGB."""
    picture = folder / "viewer.png"
    command = [
        browser(),
        *FLAGS,
        f"--virtual-time-budget={round(1e3 * seconds)}",
        f"--user-data-dir={folder / 'profile'}",
        f"--screenshot={picture}",
        url,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            graph.spin_until(lambda: process.poll() is not None, timeout=120.0, what="the end of the browser")
        finally:
            process.kill()
    keep = os.environ.get("IDEOMOTOR_TEST_PICTURES")
    if keep:
        shutil.copy(picture, keep)
    image = cv2.imread(str(picture))
    assert image is not None, "the browser wrote no picture"
    return np.ascontiguousarray(image[:, :, ::-1])


def share(image: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> float:
    """Return the share of pixels near a colour."""
    return float((np.abs(image.astype(int) - colour).max(axis=-1) < tolerance).mean())


def orange(image: np.ndarray) -> np.ndarray:
    """Return where an image has the colour of the iiwa's caps and of the chain, shape (H, W)."""
    return (image[..., 0] > 180) & (image[..., 2] < 80) & (image[..., 1] > 60) & (image[..., 1] < 180)


def test_the_browser_shows_robot_camera_and_plots(graph: Graph, tmp_path: Path) -> None:
    viewer = graph.start(ViewerNode(parameter_overrides=[Parameter("port", value=free_port())]))
    rig = BodyRig(graph)
    images = graph.publisher(Image, "camera/color/image_raw", SENSOR)
    truth = graph.publisher(PoseStamped, "sim/tip", SENSOR)
    magenta = np.full((CAMERA.height, CAMERA.width, 3), (200, 0, 160), dtype=np.uint8)

    def publish() -> None:
        now = rig._now()
        images.publish(convert.image_msg(magenta, "rgb8", now, OPTICAL))
        T_base_tip = rig.chain.forward(rig.q)
        T_base_tip[:3, 3] += T_base_tip[:3, :3] @ rig.rest[3]
        truth.publish(convert.pose_stamped_msg(T_base_tip, now, BASE))

    graph.helper.create_timer(0.1, publish)
    rig.extend()
    for attempt in range(3):  # the picture is taken after a time, not when everything has been drawn
        image = screenshot(graph, viewer.viewer.url, tmp_path, 10.0 * (attempt + 1))
        if share(image, (0, 114, 178)) > 0.0001:
            break
    scene, panel = image[SCENE], image[:, int(0.7 * SIZE[0]) :]
    assert share(scene, (255, 255, 255), 3) < 0.9, "the scene is blank"
    assert orange(scene).mean() > 0.001, "no orange: neither the iiwa's caps nor the chain are there"
    assert share(panel, (200, 0, 160)) > 0.1, "the camera image is not in the panel"
    assert share(panel, (0, 114, 178)) > 0.0002, "the plot of the re-projection error is not there"


def test_the_browser_shows_where_a_robot_is_and_where_its_target_motion_is(graph: Graph, tmp_path: Path) -> None:
    """The robot behind the camera; its target motion's robot before the camera, in green."""
    viewer = graph.start(ViewerNode(parameter_overrides=[Parameter("port", value=free_port())]))
    names = LinkTree(URDF).joint_names
    descriptions = graph.publisher(String, "robot_description", LATCHED)
    states, targets = (graph.publisher(JointState, t, STREAM) for t in ("joint_states", "target_joint_states"))
    odometry, transforms = graph.publisher(Odometry, "odom", SENSOR), graph.publisher(TFMessage, "/tf", TF)
    descriptions.publish(String(data=URDF))

    def publish() -> None:
        for publisher in (states, targets):
            publisher.publish(JointState(name=list(names), position=[0.0] * len(names)))
        odom, place = Odometry(), TransformStamped(child_frame_id=f"target/{BASE}")
        odom.pose.pose.position.x, odom.pose.pose.orientation.w = 30.0, 1.0  # behind the camera
        place.header.frame_id = "odom"
        place.transform.translation.x = 0.4  # the camera looks there
        place.transform.rotation.w = 1.0
        odometry.publish(odom)
        transforms.publish(TFMessage(transforms=[place]))

    publishers = (descriptions, states, targets, odometry, transforms)
    graph.spin_until(lambda: all(p.get_subscription_count() for p in publishers))
    publish()
    for attempt in range(3):  # the picture is taken after a time, not when everything has been drawn
        scene = screenshot(graph, viewer.viewer.url, tmp_path, 10.0 * (attempt + 1))[SCENE].astype(int)
        green = scene[..., 1] - scene[..., 0] > 40
        if green.any():
            break
    assert green.mean() > 0.003, "the target motion's robot is not there"
    assert abs(np.median(np.nonzero(green)[1]) / scene.shape[1] - 0.5) < 0.15, "it is not where /tf has it"
    assert not orange(scene).any(), "the robot has not gone to where odom has it"


def test_the_viewer_says_which_description_it_shows(graph: Graph) -> None:
    graph.start(ViewerNode(parameter_overrides=[Parameter("port", value=free_port())]))
    statuses = graph.collect(DescriptionStatus, "description_status", LATCHED)
    rig = BodyRig(graph, description_consumers=["viewer"])
    graph.spin_until(lambda: statuses)
    assert statuses[-1].description_sha256 == description_sha256(URDF)
    result = rig.extend()
    graph.spin_until(lambda: statuses[-1].description_sha256 == result.body_schema.description_sha256)
    assert statuses[-1].accepted


def test_port_in_use() -> None:
    port = free_port()
    first = Viewer(ViewerConfig(port=port))
    with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is in use"):
        Viewer(ViewerConfig(port=port))
    first.close()


def test_only_this_machine_can_look() -> None:
    port = free_port()
    viewer = Viewer(ViewerConfig(port=port))
    listening = subprocess.run(
        [sys.executable, "-c", "print(open('/proc/net/tcp').read())"], capture_output=True, text=True, check=True
    ).stdout
    addresses = [line.split()[1] for line in listening.splitlines()[1:] if line.strip()]
    assert [a for a in addresses if a.endswith(f":{port:04X}")][:1] == [f"0100007F:{port:04X}"]
    assert f"00000000:{port:04X}" not in addresses
    viewer.close()


def test_what_is_no_robot_is_refused_and_the_old_one_stays() -> None:
    viewer = Viewer(ViewerConfig(port=free_port()))
    viewer.set_description(URDF)
    with pytest.raises(ValueError, match="robot"):
        viewer.set_description("<sdf/>")
    viewer.set_joint_positions(dict.fromkeys(LinkTree(URDF).joint_names, 0.1))
    viewer.update()
    viewer.close()


def test_meshes_that_are_not_there_are_left_out() -> None:
    urdf = (
        '<robot name="r"><link name="a"><visual><geometry><mesh filename="package://nowhere/a.stl"/></geometry></visual>'
        '<visual><geometry><sphere radius="0.1"/></geometry></visual></link></robot>'
    )
    shapes = shapes_of(urdf, mesh_resolver(()))
    assert [shape.link for shape in shapes] == ["a"]
    np.testing.assert_allclose(shapes[0].mesh.extents, 0.2, atol=1e-3)
    with pytest.raises(UrdfError, match="expected XML"):
        shapes_of("<robot", mesh_resolver(()))


def test_link_tree_knows_every_joint_and_the_way_to_a_link() -> None:
    tree = LinkTree(URDF)
    assert len(tree.joint_names) == 7
    path = tree.path_to("gripper_tcp")
    assert (path[0], path[-1]) == (BASE, "gripper_tcp")
    np.testing.assert_allclose(tree.link_poses(dict.fromkeys(tree.joint_names, 0.0))[BASE], np.eye(4))
