"""Nothing recorded is lost: what was flushed before the recorder was killed is read back."""

import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.parameter import Parameter
from std_srvs.srv import Trigger

from ideomotor.data.experience import read_episodes
from ideomotor_nodes.experience_recorder import ExperienceRecorderNode
from tests.graph.conftest import Graph
from tests.graph.experience_rig import JOINTS, Rig

FLUSH = 0.1  # [s]


def test_a_killed_recorder_leaves_what_it_had_flushed(
    graph: Graph, node_command: Callable[..., list[str]], tmp_path: Path
) -> None:
    rig = Rig(graph)
    command = node_command("experience_recorder", folder=tmp_path, flush_period=FLUSH)
    with subprocess.Popen(command) as process:
        try:
            rig.wait_for_recorder()
            started = graph.call(Trigger, "experience_recorder/start", Trigger.Request())
            assert started.success
            rig.episode("complete", steps=40)
            rig.begin("cut off", steps=60)
            graph.spin(1.0)  # ten flushes
            flushed = rig.step - rig.first
            for _ in range(20):
                rig.command()
                rig.state()
        finally:
            process.send_signal(signal.SIGKILL)
    folder = Path(started.message)
    assert not (folder / "metadata.yaml").exists()
    complete, cut = read_episodes(folder, joints=JOINTS)
    assert (complete.name, complete.steps) == ("complete", 40)
    assert cut.name == "cut off"
    assert flushed <= cut.steps <= flushed + 20
    np.testing.assert_array_equal(cut.effort[:, 0], rig.first + 1 + np.arange(cut.steps))
    node = graph.start(ExperienceRecorderNode(parameter_overrides=[Parameter("folder", value=str(tmp_path))]))
    assert graph.call(Trigger, "experience_recorder/start", Trigger.Request()).message == str(tmp_path / "0001")
    node.trigger_deactivate()
