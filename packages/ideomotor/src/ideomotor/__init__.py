"""Ideomotor on the robot: body, planning, safety, data and artefacts. Knows neither ROS nor torch."""

__version__ = "0.1.0"
