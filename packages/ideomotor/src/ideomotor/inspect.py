"""What an artefact, a recording or a robot description contains, as text for a person."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from xml.etree import ElementTree as ET

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError

from ideomotor.artefacts import MANIFEST, Manifest, Tensor, load_artefact, read_manifest
from ideomotor.body.urdf import load_urdf, parse_urdf, root_link
from ideomotor.errors import IdeomotorError

BAG_METADATA = "metadata.yaml"


class InspectError(IdeomotorError):
    """A path is not something that can be inspected."""


def describe(path: Path) -> str:
    """Say what is at ``path``: an artefact's folder, a bag (a folder or an .mcap file), a .urdf or .xacro file.

    Raises:
        InspectError: if it is none of them, or a bag cannot be read.
        ArtefactError: if an artefact is not whole.
        UrdfError: if a robot description is not valid.
    """
    if (path / MANIFEST).is_file():
        return describe_artefact(path)
    if (path / BAG_METADATA).is_file() or (path.is_file() and path.suffix == ".mcap"):
        return describe_bag(path)
    if path.is_file() and path.suffix in (".urdf", ".xacro"):
        return describe_urdf(load_urdf(path))
    what = "is no such file or folder" if not path.exists() else "cannot be inspected"
    raise InspectError(
        f"{path} {what}; expected a folder with {MANIFEST} (artefact) or {BAG_METADATA} (bag), or a file .mcap, .urdf,"
        " .xacro"
    )


def describe_artefact(folder: Path) -> str:
    """Describe an artefact, after checking all of it.

    Raises:
        ArtefactError: if it is not whole.
    """
    m = load_artefact(folder, modality=read_manifest(folder).modality).manifest
    return "\n".join((f"artefact {folder}: {m.modality}, checked", *_manifest_lines(m)))


def _manifest_lines(m: Manifest) -> Iterable[str]:
    for model in m.models:
        yield f"  {model.file}  sha256 {model.sha256[:12]}"
        yield from (f"    in   {_tensor(t)}" for t in model.inputs)
        yield from (f"    out  {_tensor(t)}" for t in model.outputs)
    rows = [
        ("rate", f"{m.rate:g} Hz"),
        ("joints", ", ".join(m.joint_names) or "none"),
        ("seed", str(m.seed)),
        ("data", f"sha256 {m.data_sha256[:12]}"),
        ("code", m.code_version),
        ("licence", m.licence),
        *((f"metric {name}", f"{value:g}") for name, value in m.metrics.items()),
        *((name, str(value)) for name, value in m.extra.items()),
        *((f"training {name}", str(value)) for name, value in m.training.items()),
    ]
    yield from table(rows)


def _tensor(t: Tensor) -> str:
    n = t.normalisation
    normalised = "" if n is None else f"  (x - {list(n.mean)}) / {list(n.std)} on axis {n.axis}"
    return f"{t.name}  {t.dtype}[{', '.join(map(str, t.shape))}]  [{t.unit}]{normalised}"


def describe_bag(path: Path) -> str:
    """Describe a recording: per topic its type, messages, rate and longest gap, by the times of recording.

    Raises:
        InspectError: if it cannot be read to its end.
    """
    stamps: dict[tuple[str, str], list[int]] = defaultdict(list)  # [ns] by topic and type
    try:
        with AnyReader([path]) as reader:
            for connection in reader.connections:
                stamps[connection.topic, connection.msgtype] = []
            for connection, stamp, _ in reader.messages():
                stamps[connection.topic, connection.msgtype].append(stamp)
    except (AnyReaderError, OSError) as error:
        raise InspectError(f"{path} cannot be read as a bag: {error}") from error
    every = [stamp for times in stamps.values() for stamp in times]
    duration = (max(every) - min(every)) * 1e-9 if every else 0.0
    rows = [("topic", "type", "messages", "rate [Hz]", "longest gap [s]")]
    rows += [(topic, kind, str(len(times)), *_rate_and_gap(times)) for (topic, kind), times in sorted(stamps.items())]
    head = f"bag {path}: {duration:.3f} s, {len(every)} messages, {len(stamps)} topics"
    return "\n".join((head, *table(rows)))


def _rate_and_gap(times: Sequence[int]) -> tuple[str, str]:
    """Return the rate, by the median interval, and the longest interval."""
    if len(times) < 2:
        return "-", "-"
    intervals = np.diff(np.sort(np.array(times, dtype=np.int64))) * 1e-9  # (N - 1,) [s]
    median = float(np.median(intervals))
    return (f"{1.0 / median:.1f}" if median > 0 else "-"), f"{intervals.max():.3f}"


def describe_urdf(urdf: str) -> str:
    """Describe a robot: its joints with their limits (SI units, radians), as a tree of links.

    Raises:
        UrdfError: if the description is not valid.
    """
    robot = parse_urdf(urdf)
    joints = robot.findall("joint")
    moving = sum(joint.get("type") != "fixed" for joint in joints)
    links = len(robot.findall("link"))
    head = f"robot {robot.get('name')}: {links} links, {moving} moving joints; limits in SI units"
    rows: list[Sequence[str]] = [("link", "joint", "type", *_LIMITS)]

    def add(link: str, depth: int, columns: Sequence[str]) -> None:
        rows.append((f"{'  ' * depth}{link}", *columns))
        for joint in joints:
            if _get(joint.find("parent"), "link") == link:
                limits = (_number(_get(joint.find("limit"), name)) for name in _LIMITS)
                add(_get(joint.find("child"), "link"), depth + 1, (_get(joint, "name"), _get(joint, "type"), *limits))

    add(root_link(robot), 0, ("",) * 6)
    return "\n".join((head, *table(rows)))


_LIMITS = ("lower", "upper", "velocity", "effort")


def _get(element: ET.Element | None, attribute: str) -> str:
    return "-" if element is None else element.get(attribute, "-")


def _number(text: str) -> str:
    return text if text == "-" else f"{float(text):.4g}"


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the rows as lines with aligned columns."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return [f"  {line}".rstrip() for line in lines]
