"""Write the parameter tables of docs/nodes.md: ``python -m tools.node_docs``, with the workspace sourced.

The tables are made of the configuration dataclasses that the nodes declare; a test compares them with the file.
"""

from dataclasses import fields
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

from ideomotor_nodes.params import NodeConfig

FILE = Path(__file__).parents[1] / "docs" / "nodes.md"
MARKER = "<!-- written by tools/node_docs.py from here on -->"
NODES = (
    "mujoco_sim",
    "keypoint_detector",
    "body_schema",
    "robot_state_publisher",
    "tip_controller",
    "safety_gate",
    "recorder",
    "experience_recorder",
    "player",
    "viewer",
    "tool_use",
    "demonstrate",
    "reward_learner",
    "learn_reward",
    "reward_use",
    "policy_controller",
    "run_policy",
    "controller_trainer",
    "train_controller",
)


def config_type(node: str) -> type[NodeConfig]:
    """Return the dataclass whose fields are the parameters of a node."""
    module = import_module(f"ideomotor_nodes.{node}")
    own = [
        t for t in vars(module).values() if isinstance(t, type) and issubclass(t, NodeConfig) and t is not NodeConfig
    ]
    return own[0] if own else NodeConfig


def parameter_table(node: str) -> str:
    """Return the parameters of a node as a Markdown table."""
    config = config_type(node)
    types = get_type_hints(config)
    lines = [f"### {node}", "", "| parameter | type | default | range | what |", "| --- | --- | --- | --- | --- |"]
    for f in sorted(fields(config), key=lambda f: f.name):
        kind = types[f.name]
        name = kind.__name__ if kind in (bool, int, float, str) else str(kind).replace("typing.", "")
        ge, le, choices = f.metadata["ge"], f.metadata["le"], f.metadata["choices"]
        span = ", ".join(choices) if choices else "" if ge is None and le is None else f"{ge} .. {le}"
        default = ", ".join(map(str, f.default)) if isinstance(f.default, tuple) else str(f.default)
        lines.append(f"| `{f.name}` | {name} | {default} | {span} | {f.metadata['doc']} |".replace("  ", " "))
    return "\n".join(lines)


def documentation(text: str) -> str:
    """Return docs/nodes.md, given as text, with tables that agree with the code."""
    prose, _, _ = text.partition(MARKER)
    return prose + MARKER + "\n\n" + "\n\n".join(parameter_table(node) for node in NODES) + "\n"


if __name__ == "__main__":
    FILE.write_text(documentation(FILE.read_text(encoding="utf-8")), encoding="utf-8")
