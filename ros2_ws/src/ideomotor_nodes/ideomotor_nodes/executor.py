"""The executor of our nodes: rclpy's, with a short way for streams.

rclpy's `SingleThreadedExecutor` collects the entities of its nodes anew before every wait (a node of ours has 60, half
of them QoS events), and wakes itself once more after every callback: 0.5 ms of a core for a message; this one needs
0.03. With a camera at 30 Hz and a driver at 100 Hz that was half of what a node cost.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from rclpy.event_handler import EventHandler
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation as _rclpy
from rclpy.node import Node
from rclpy.subscription import Subscription
from rclpy.waitable import NumberOfEntities

_BATCH = 16  # messages of one topic that are taken before others have their turn
_EVENTS_PERIOD = 2.0  # [s] how often QoS events are looked at


class StreamExecutor(SingleThreadedExecutor):
    """Calls back subscriptions (all messages that wait), timers and guard conditions itself, leaves the rest to rclpy.

    These callbacks are plain functions, and those of subscriptions take the message, or the message and its times.
    """

    def __init__(self) -> None:
        super().__init__()
        self._changed = True
        self._in_use = ExitStack()  # what is destroyed meanwhile stays valid until this is closed
        self._next_events = 0.0  # [s]

    def wake(self) -> None:
        """Collect the entities anew: rclpy calls this when some were created or destroyed."""
        self._changed = True
        super().wake()

    def add_node(self, node: Node) -> bool:
        """Serve a node from now on."""
        self._changed = True
        return bool(super().add_node(node))

    def remove_node(self, node: Node) -> None:
        """Do not serve a node any more."""
        self._changed = True
        super().remove_node(node)

    def shutdown(self, timeout_sec: float | None = None) -> bool:
        """Let go of all entities."""
        self._in_use.close()
        return bool(super().shutdown(timeout_sec))

    def spin_once(self, timeout_sec: float | None = None) -> None:
        """Wait until something is ready, at most ``timeout_sec`` (None: for ever), and call it back."""
        now = time.monotonic()
        if self._tasks or now >= self._next_events:  # a task ends an action, or takes the answer to a client
            self._next_events, timeout_sec = now + _EVENTS_PERIOD, 0.0
            super().spin_once(0.0)
        if self._changed:
            self._collect()
        self._wait_set.clear_entities()
        for add in self._additions:
            add()
        self._wait_set.wait(-1 if timeout_sec is None else int(timeout_sec * 1e9))
        if self._others_are_ready():
            super().spin_once(0.0)
        for kind, calls in self._calls.items():
            for pointer in self._wait_set.get_ready_entities(kind):
                if self._changed:  # by the last callback; what is ready stays so
                    return
                if pointer in calls:  # not one of a waitable's, or the executor's own
                    calls[pointer]()

    def _others_are_ready(self) -> bool:
        kinds = (self._wait_set.get_ready_entities(kind) for kind in ("service", "client"))
        return any(kinds) or any(waitable.is_ready(self._wait_set) for waitable in self._waitables)

    def _collect(self) -> None:
        self._changed = False
        self._in_use.close()
        nodes = self.get_nodes()
        subscriptions = [s for node in nodes for s in node.subscriptions]
        timers = [t for node in nodes for t in node.timers]
        guards = [g for node in nodes for g in node.guards]
        services = [s for node in nodes for s in node.services]
        clients = [c for node in nodes for c in node.clients]
        self._waitables = [w for node in nodes for w in node.waitables if not isinstance(w, EventHandler)]
        own = [self._guard, self._sigint_gc]
        size = NumberOfEntities(len(subscriptions), len(guards) + len(own), len(timers), len(clients), len(services))
        for waitable in self._waitables:
            size += waitable.get_num_entities()
        for entity in (*subscriptions, *timers, *guards, *own, *services, *clients):
            self._in_use.enter_context(entity.handle)
        for entity in (*self._waitables, self._context.handle):
            self._in_use.enter_context(entity)
        self._wait_set = wait_set = _rclpy.WaitSet(*(getattr(size, n) for n in size.__slots__), self._context.handle)
        self._additions = [
            *(partial(wait_set.add_subscription, s.handle) for s in subscriptions),
            *(partial(wait_set.add_guard_condition, g.handle) for g in (*guards, *own)),
            *(partial(wait_set.add_timer, t.handle) for t in timers),
            *(partial(wait_set.add_client, c.handle) for c in clients),
            *(partial(wait_set.add_service, s.handle) for s in services),
            *(partial(w.add_to_wait_set, wait_set) for w in self._waitables),
        ]
        self._calls: dict[str, dict[int, Callable[[], None]]] = {
            "subscription": {s.handle.pointer: partial(self._receive, s) for s in subscriptions},
            "timer": {t.handle.pointer: partial(_expire, t) for t in timers},
            "guard_condition": {g.handle.pointer: g.callback for g in guards},
        }

    def _receive(self, subscription: Any) -> None:  # noqa: ANN401 - rclpy is untyped
        informed = subscription._callback_type is Subscription.CallbackType.WithMessageInfo
        # No more than can wait: in a fast loop, the answer to what a callback sent would be taken before all else.
        for _ in range(min(_BATCH, subscription.qos_profile.depth or _BATCH)):
            taken = subscription.handle.take_message(subscription.msg_type, subscription.raw)
            if taken is None:
                return
            subscription.callback(*taken) if informed else subscription.callback(taken[0])
            if self._changed:
                return


def _expire(timer: Any) -> None:  # noqa: ANN401
    if timer.handle.is_timer_ready():  # not cancelled by a callback just now
        timer.handle.call_timer()
        timer.callback()
