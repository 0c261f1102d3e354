"""Fault tests run nodes as the graph tests do."""

from tests.graph.conftest import domain, graph, node_command, ros

__all__ = ["domain", "graph", "node_command", "ros"]
