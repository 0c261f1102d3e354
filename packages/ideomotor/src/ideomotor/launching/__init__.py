"""Runs ROS 2 XML launch files where ROS 2 itself is not installed (pip only). Nothing else depends on it."""
