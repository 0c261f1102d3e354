#!/bin/bash
# Runs a command in the environment of ROS 2 and the built workspace.
set -e
source /opt/ros/jazzy/setup.bash
source /ideomotor/ros2_ws/install/setup.bash
exec "$@"
