"""docs/nodes.md and the shipped parameter files agree with what the nodes declare."""

from pathlib import Path
from typing import get_origin, get_type_hints

import pytest
import yaml

from tools.node_docs import FILE, NODES, config_type, documentation

CONFIG = Path(__file__).parents[2] / "ros2_ws" / "src" / "ideomotor_bringup" / "config"


def test_parameter_tables_agree_with_the_code() -> None:
    text = FILE.read_text(encoding="utf-8")
    assert text == documentation(text), "run: python -m tools.node_docs"


@pytest.mark.parametrize("path", sorted(CONFIG.glob("*.yaml")), ids=lambda p: p.name)
def test_shipped_parameter_files_are_valid(path: Path) -> None:
    """A misspelt parameter is a TypeError, a bad value a ConfigError."""
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(content) <= set(NODES)
    for node, body in content.items():
        config = config_type(node)
        types = get_type_hints(config)
        given = {k: v for k, v in body["ros__parameters"].items() if k != "qos_overrides"}  # rclpy's own
        values = {k: tuple(v) if get_origin(types.get(k)) is tuple else v for k, v in given.items()}
        config(**values)
        for name, v in values.items():
            if types[name] in (bool, int, float, str):
                assert type(v) is types[name], f"{node}.{name}: ROS needs {types[name].__name__}, got {v!r}"
