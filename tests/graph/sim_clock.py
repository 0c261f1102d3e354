"""Simulated time that goes on only while a test spins, so that nothing is stale because the machine is slow."""

from rclpy.clock import Clock as RclpyClock
from rclpy.clock import ClockType
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock

from ideomotor_nodes import convert
from tests.graph.conftest import Graph

SIM_TIME = Parameter("use_sim_time", value=True)
STEP = 0.01  # [s]


class SimClock:
    """Publishes /clock; nodes with the parameter `SIM_TIME` live in its time."""

    def __init__(self, graph: Graph) -> None:
        self.now = 1.0  # [s]
        self._graph = graph
        self._publisher = graph.helper.create_publisher(Clock, "/clock", 10)
        graph.helper.create_timer(STEP, self._tick, clock=RclpyClock(clock_type=ClockType.STEADY_TIME))

    def wait(self, seconds: float) -> None:
        """Spin for a span of simulated time."""
        end = self.now + seconds
        self._graph.spin_until(lambda: self.now >= end, timeout=60.0)

    def _tick(self) -> None:
        self.now += STEP
        self._publisher.publish(Clock(clock=convert.stamp(self.now)))
