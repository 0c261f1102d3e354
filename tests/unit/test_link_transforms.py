"""Link transforms agree with pinocchio on every link of a robot with every kind of joint."""

import numpy as np
import pinocchio as pin
import pytest

from ideomotor.body.link_transforms import LinkTransforms
from ideomotor.body.transform_tree import TransformTree
from ideomotor.body.urdf import UrdfError

URDF = """<robot name="r">
<link name="l0"/><link name="l1"/><link name="l2"/><link name="l3"/><link name="l4"/><link name="l5"/>
<joint name="a" type="revolute"><parent link="l0"/><child link="l1"/><origin xyz="0.1 0 0.2" rpy="0.1 0.2 0.3"/>
  <axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="2" effort="1"/></joint>
<joint name="b" type="prismatic"><parent link="l1"/><child link="l2"/><origin xyz="0 0.3 0"/><axis xyz="0 0 2"/>
  <limit lower="-2" upper="2" velocity="2" effort="1"/></joint>
<joint name="c" type="continuous"><parent link="l2"/><child link="l3"/><axis xyz="0 0 1"/>
  <limit velocity="2" effort="1"/></joint>
<joint name="d" type="fixed"><parent link="l3"/><child link="l4"/><origin xyz="0 0 0.5" rpy="0 0 1"/></joint>
<joint name="e" type="revolute"><parent link="l3"/><child link="l5"/><origin xyz="1 0 0"/><axis xyz="1 0 0"/>
  <mimic joint="a" multiplier="-2" offset="0.1"/><limit lower="-3" upper="3" velocity="2" effort="1"/></joint>
</robot>"""


def test_transforms_agree_with_pinocchio() -> None:
    transforms = LinkTransforms(URDF)
    positions = {"a": 0.3, "b": -0.4, "c": 2.0, "unknown": 7.0}
    tree = TransformTree()
    for t in [*transforms.static, *transforms.moving(positions)]:
        tree.set(t.parent, t.child, t.T_parent_child)
    model = pin.buildModelFromXML(URDF)
    values = {"a": [0.3], "b": [-0.4], "c": [np.cos(2.0), np.sin(2.0)], "e": [-2 * 0.3 + 0.1]}
    q = np.concatenate([values[name] for name in list(model.names)[1:]])
    data = model.createData()
    pin.framesForwardKinematics(model, data, q)
    for link in ("l1", "l2", "l3", "l4", "l5"):
        np.testing.assert_allclose(tree.lookup("l0", link), data.oMf[model.getFrameId(link)].homogeneous, atol=1e-12)


def test_only_joints_that_were_heard_of_are_given() -> None:
    """A partial joint state moves what it names, and what mimics it."""
    assert {t.child for t in LinkTransforms(URDF).moving({"a": 0.0})} == {"l1", "l5"}
    assert [t.child for t in LinkTransforms(URDF).static] == ["l4"]


def test_malformed_description_is_refused() -> None:
    with pytest.raises(UrdfError):
        LinkTransforms("<robot")


@pytest.mark.parametrize("joint", ["nobody", "e"])
def test_mimic_of_nobody_or_of_itself_is_refused(joint: str) -> None:
    with pytest.raises(UrdfError, match="'e'"):
        LinkTransforms(URDF.replace('<mimic joint="a"', f'<mimic joint="{joint}"'))
