"""Run a node as a process."""

import gc
import logging
import signal
import time
from collections.abc import Callable
from threading import Event
from typing import Any

import rclpy
from rclpy.duration import Duration
from rclpy.exceptions import ParameterException
from rclpy.signals import SignalHandlerOptions

from ideomotor.errors import IdeomotorError
from ideomotor_nodes.executor import StreamExecutor
from ideomotor_nodes.lifecycle import FAILURE, SUCCESS, LifecycleNode

BAD_INPUT, DEFECT = 2, 1  # exit codes
DELIVERY = 0.5  # [s] longest time for the last messages to arrive
POLL = 0.1  # [s] how often a node that receives nothing looks whether a signal came


class _ToRos(logging.Handler):
    """Forwards the records of the libraries to the node's logger."""

    def __init__(self, logger: Any) -> None:  # noqa: ANN401 - rclpy is untyped
        super().__init__()
        # one call site for each severity: rclpy refuses another severity at the same place
        self._log = {
            logging.DEBUG: lambda text: logger.debug(text),
            logging.INFO: lambda text: logger.info(text),
            logging.WARNING: lambda text: logger.warning(text),
            logging.ERROR: lambda text: logger.error(text),
            logging.CRITICAL: lambda text: logger.fatal(text),
        }

    def emit(self, record: logging.LogRecord) -> None:
        self._log.get(record.levelno, self._log[logging.INFO])(self.format(record))


def run_node(node_type: Callable[[], LifecycleNode[Any]], args: list[str] | None = None) -> int:
    """Start the node, spin until a signal comes, leave the robot in a safe state.

    Returns:
        0 after a signal; 2 if a parameter was refused, or configuring or activating failed at start because of bad
        input; 1 if that was a defect; what the node said if it ended itself.
    """
    # our own handlers: rclpy's shut the context down first, and no last command could be sent
    rclpy.init(args=args, signal_handler_options=SignalHandlerOptions.NO)
    stop = Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda signum, frame: stop.set())
    try:
        node = node_type()
    except (IdeomotorError, ParameterException) as error:
        rclpy.logging.get_logger(getattr(node_type, "__name__", "node")).fatal(f"{error}")
        rclpy.shutdown()
        return BAD_INPUT
    logging.getLogger("ideomotor").addHandler(_ToRos(node.get_logger()))
    executor = StreamExecutor()
    executor.add_node(node)
    try:
        result = node.autostart()
        if result != SUCCESS:
            return BAD_INPUT if result == FAILURE else DEFECT
        gc.collect()
        gc.freeze()  # what is loaded now stays: searching it for garbage takes up to 0.1 s
        while not stop.is_set() and rclpy.ok() and node.exit_code is None:
            executor.spin_once(timeout_sec=POLL)
        return node.exit_code or 0
    finally:
        if rclpy.ok():
            if node.is_active:
                node.trigger_deactivate()
                _deliver(node)
            node.trigger_shutdown()
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()


def _deliver(node: LifecycleNode[Any]) -> None:
    """Wait until what was published has arrived: what has not is lost with the process, the last, safe command, too."""
    end = time.monotonic() + DELIVERY
    for publisher in node.publishers:
        publisher.wait_for_all_acked(Duration(seconds=max(0.0, end - time.monotonic())))
