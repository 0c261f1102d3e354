"""The ROS 2 nodes: one thin node a file."""
