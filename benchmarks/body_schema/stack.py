"""The real nodes over DDS for one case of the benchmark: the processes that `ros2 launch` would start."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
import yaml
from scipy.spatial.transform import Rotation

from benchmarks.body_schema.cases import Options, case_seed, open_case
from ideomotor_nodes.client import BodySchemaClient
from ideomotor_sim.camera import R_BODY_OPTICAL

LAUNCH_FILE = Path("launch/simulated.launch.xml")
DOMAIN_ID = 77  # of the benchmark's nodes
IMAGE_TOPICS = ("/camera/color/image_raw", "/camera/depth/image_rect_raw")
START_TIMEOUT = 120.0  # [s]
STOP_TIMEOUT = 20.0  # [s]


@contextmanager
def running_stack(
    options: Options, seed: int, tool: str, client_type: type[BodySchemaClient] = BodySchemaClient
) -> Iterator[Any]:
    """Start simulator and nodes for a case, yield a client that has found them, stop them.

    Args:
        options: robot, camera pose and artefact.
        seed: of the case.
        tool: of the case.
        client_type: called with the name of its node.
    """
    os.environ["ROS_DOMAIN_ID"] = str(DOMAIN_ID)
    with tempfile.TemporaryDirectory() as folder:
        config, log = Path(folder, "robot.yaml"), Path(folder, "stack.log")
        config.write_text(yaml.safe_dump(robot_parameters(options, seed, tool)))
        arguments = {
            "config": config,
            "urdf": options.urdf.resolve(),
            "artefact": options.artefact.resolve(),
            "tool": tool,
            "seed": case_seed(seed, tool),
        }
        command = ["ideomotor", "up", str(LAUNCH_FILE), *(f"{name}:={value}" for name, value in arguments.items())]
        with log.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        rclpy.init()
        client = client_type("benchmark")
        try:
            client.wait_for_robot(START_TIMEOUT)
            yield client
        except BaseException:
            sys.stderr.write(log.read_text()[-4000:])
            raise
        finally:
            client.destroy_node()
            rclpy.try_shutdown()
            process.send_signal(signal.SIGINT)
            process.wait(STOP_TIMEOUT)


def robot_parameters(options: Options, seed: int, tool: str) -> dict[str, Any]:
    """Return the parameter file of the robot (as config/iiwa7.yaml), with camera and start of the case."""
    with open_case(options, seed, tool) as case:
        T = case.world.T_base_camera
        names, home = list(case.world.command_names), dict(zip(case.world.joint_names, case.home.tolist(), strict=True))
        joints = [name for name in case.chain.actuated_names if name in names]
    angles = Rotation.from_matrix(T[:3, :3] @ R_BODY_OPTICAL.T).as_euler("xyz")
    ee_link = {"ee_link": options.ee_link}
    sections: dict[str, dict[str, Any]] = {
        "mujoco_sim": ee_link
        | {
            "joints": joints,
            "initial_positions": [home[name] for name in joints],
            "camera_pose": [*T[:3, 3].tolist(), *angles.tolist()],
        },
        "safety_gate": {"joints": list(joints)},  # a copy: rcl reads no YAML aliases
        "keypoint_detector": {
            "qos_overrides": {topic: {"subscription": {"reliability": "reliable"}} for topic in IMAGE_TOPICS}
        },
        "body_schema": dict(ee_link),
        "tip_controller": ee_link | {"joints": list(joints)},
    }
    return {node: {"ros__parameters": parameters} for node, parameters in sections.items()}
