"""docs/bring_your_robot.md: its Python runs on a robot that the project does not ship, and its facts hold."""

import importlib.metadata
import re
from pathlib import Path

import numpy as np
import pytest

from ideomotor.body.chain import ChainError, KinematicChain
from ideomotor.body.urdf import UrdfError, load_urdf, validate_urdf

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "bring_your_robot.md").read_text()


def panda() -> Path:
    files = importlib.metadata.files("example-robot-data")
    assert files is not None
    (path,) = [f for f in files if str(f).endswith("panda_description/urdf/panda.urdf")]
    return Path(str(path.locate()))


def test_the_pages_python_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """The blocks form one program; what its comments promise is what it prints."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 2
    joint_state = {f"panda_joint{i}": 0.1 * i for i in range(1, 8)} | {"panda_finger_joint1": 0.0, "other": 1.0}
    names: dict[str, object] = {"path": panda(), "joint_state": joint_state}
    for block in blocks:
        exec(compile(block, "bring_your_robot.md", "exec"), names)
    printed = capsys.readouterr().out
    assert printed.startswith("('panda_joint1', ")
    assert printed.rstrip().endswith("hinge")
    chain, longer, q = (names[name] for name in ("chain", "longer", "q"))
    assert isinstance(chain, KinematicChain)
    assert isinstance(longer, KinematicChain)
    tip = np.linalg.inv(chain.forward(q)) @ longer.forward(np.append(q, np.pi / 2))
    np.testing.assert_allclose(tip[:3, 3], [0.1, 0, 0.1], atol=1e-12)  # straight, then bent by the hinge


def test_the_pages_error_messages_are_real() -> None:
    """The three messages shown, provoked."""
    two = '<robot name="r"><link name="base"/><link name="camera"/></robot>'
    joint = (
        '<robot name="r"><link name="a"/><link name="b"/><joint name="wrist_2" type="revolute"><parent link="a"/>'
        '<child link="b"/><limit lower="3.1" upper="-3.1" effort="1" velocity="1"/></joint></robot>'
    )
    for urdf in (two, joint):
        with pytest.raises(UrdfError) as caught:
            validate_urdf(urdf)
        assert str(caught.value) in PAGE
    with pytest.raises(ChainError, match="ee_link='tool' is not among the links"):
        KinematicChain.from_urdf(load_urdf(panda()), ee_link="tool")
    assert "ee_link='tool' is not among the links" in PAGE


def test_the_pages_table_of_robots_is_complete() -> None:
    """Every robot in urdf/ has its row, with every xacro argument, and the links and joints exist."""
    robots = sorted((ROOT / "urdf").glob("*.urdf.xacro"))
    rows = {
        cells[1].strip(" `"): cells for cells in (row.split("|") for row in re.findall(r"^\| `urdf/.*", PAGE, re.M))
    }
    assert sorted(rows) == [f"urdf/{path.name}" for path in robots]
    for path in robots:
        cells = rows[f"urdf/{path.name}"]
        assert re.findall(r"`(\w+)`", cells[4]) == re.findall(r'<xacro:arg name="(\w+)"', path.read_text())
        base, ee, *_ = re.findall(r"`(\w+)`", cells[2])
        chain = KinematicChain.from_urdf(load_urdf(path), ee_link=ee, base_link=base)
        assert set(re.findall(r"`(\w+)`", cells[3])) <= set(chain.joint_names)
