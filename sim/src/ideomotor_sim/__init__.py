"""MuJoCo worlds, cameras and tools for ideomotor. Knows neither ROS nor torch."""

import os

os.environ.setdefault("MUJOCO_GL", "egl")  # before anything imports mujoco: cameras draw without a display
