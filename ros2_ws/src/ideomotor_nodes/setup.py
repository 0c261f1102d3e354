"""colcon builds this package; the libraries it calls (packages/, sim/) are pip packages."""

from setuptools import setup

PACKAGE = "ideomotor_nodes"
NODES = (
    "body_schema",
    "controller_trainer",
    "demonstrate",
    "experience_recorder",
    "keypoint_detector",
    "learn_reward",
    "mujoco_sim",
    "player",
    "policy_controller",
    "recorder",
    "reward_learner",
    "reward_use",
    "robot_state_publisher",
    "run_policy",
    "safety_gate",
    "tip_controller",
    "replay",
    "tool_use",
    "train_controller",
    "viewer",
)

setup(
    name=PACKAGE,
    version="0.1.0",
    description="The ROS 2 nodes of Ideomotor.",
    license="Apache-2.0",
    maintainer="Ideomotor developers",
    maintainer_email="maintainers@ideomotor.invalid",
    packages=[PACKAGE],
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (f"share/{PACKAGE}", ["package.xml"]),
    ],
    zip_safe=False,
    entry_points={"console_scripts": [f"{node} = {PACKAGE}.{node}:main" for node in NODES]},
)
