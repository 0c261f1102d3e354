"""MuJoCo worlds, cameras and tools for ideomotor. Knows neither ROS nor torch."""
