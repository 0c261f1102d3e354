"""What surrounds the robot: a room, lights, clutter, and the robot's colours; all of it drawn from a generator."""

from dataclasses import dataclass

import mujoco
import numpy as np

from ideomotor_sim.surfaces import Surface, add_image_material, add_material, random_image, random_surface
from ideomotor_sim.transforms import quaternion_from, rotation_from_rpy

_SHAPES = (mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER, mujoco.mjtGeom.mjGEOM_SPHERE)
_GREY = Surface((0.55, 0.55, 0.57), (0.4, 0.4, 0.4))
_DARK = Surface((0.22, 0.22, 0.24), (0.2, 0.2, 0.2))
_ORANGE = Surface((0.9, 0.42, 0.08), (0.8, 0.4, 0.1))


@dataclass(frozen=True)
class Prop:
    """A thing that stands, lies or floats in the room and is not held."""

    shape: mujoco.mjtGeom
    size: tuple[float, float, float]  # MuJoCo's half sizes [m]
    position: np.ndarray  # (3,) in the base frame [m]
    quaternion: np.ndarray  # (4,) wxyz
    surface: Surface


@dataclass(frozen=True)
class Light:
    """A directional light."""

    direction: np.ndarray  # (3,)
    diffuse: tuple[float, float, float]


@dataclass(frozen=True)
class Scene:
    """Room, lights, props and the robot's colours."""

    floor_height: float  # in the base frame [m]; the robot stands on a pedestal
    room: float  # half width of the room [m]
    images: tuple[np.ndarray, ...]  # floor and four walls, (H, W, 3) uint8
    ambient: float
    headlight: float
    lights: tuple[Light, ...]
    props: tuple[Prop, ...]
    robot_surfaces: tuple[Surface, ...]  # links take them in turn
    attachments: tuple[tuple[str, Prop], ...] = ()  # fixed to links of the robot, in the link's frame


def sample_scene(rng: np.random.Generator) -> Scene:
    """Draw a scene: any colours, light and clutter."""
    floor = 0.0 if rng.random() < 0.4 else -rng.uniform(0.1, 0.9)
    brightness = rng.uniform(0.6, 1.3)
    lights = tuple(
        Light(rng.normal(size=3) - np.array([0.0, 0.0, 1.2]), tuple(rng.uniform(0.3, 0.8, 3) * brightness))
        for _ in range(rng.integers(1, 3))
    )
    props = [_clutter(rng, floor) for _ in range(rng.integers(2, 10))]
    props += [_distractor(rng) for _ in range(rng.integers(0, 4))]
    return Scene(
        floor_height=floor,
        room=rng.uniform(2.2, 4.0),
        images=tuple(random_image(rng) for _ in range(5)),
        ambient=rng.uniform(0.2, 0.5) * brightness,
        headlight=rng.uniform(0.0, 0.4) * brightness,
        lights=lights,
        props=tuple(props),
        robot_surfaces=tuple(random_surface(rng) for _ in range(rng.integers(1, 5))),
    )


def plain_scene() -> Scene:
    """Return the scene without randomness: grey room, orange and dark robot, nothing else."""
    image = np.full((8, 8, 3), 190, np.uint8)
    image[:4, :4] = image[4:, 4:] = 170
    return Scene(
        floor_height=0.0,
        room=3.0,
        images=(image,) * 5,
        ambient=0.35,
        headlight=0.25,
        lights=(Light(np.array([-0.5, 0.4, -1.0]), (0.5, 0.5, 0.5)),),
        props=(),
        robot_surfaces=(_ORANGE, _GREY, _DARK),
    )


def _clutter(rng: np.random.Generator, floor: float) -> Prop:
    """A box, cylinder or ball somewhere around, mostly standing on the floor."""
    size = rng.uniform(0.03, 0.2, 3)
    radius, bearing = rng.uniform(0.45, 2.0), rng.uniform(-np.pi, np.pi)
    z = floor + size[2] if rng.random() < 0.7 else rng.uniform(0.0, 1.3)
    position = np.array([radius * np.cos(bearing), radius * np.sin(bearing), z])
    quaternion = quaternion_from(rotation_from_rpy(0.0, 0.0, rng.uniform(-np.pi, np.pi)))
    shape = _SHAPES[int(rng.integers(len(_SHAPES)))]
    return Prop(shape, tuple(size), position, quaternion, random_surface(rng))


def _distractor(rng: np.random.Generator) -> Prop:
    """A stick that nobody holds."""
    size = (rng.uniform(0.005, 0.015), rng.uniform(0.06, 0.16), 0.0)
    radius, bearing = rng.uniform(0.3, 1.2), rng.uniform(-np.pi, np.pi)
    position = np.array([radius * np.cos(bearing), radius * np.sin(bearing), rng.uniform(0.0, 1.2)])
    quaternion = quaternion_from(rotation_from_rpy(*rng.uniform(-np.pi, np.pi, 3)))
    return Prop(mujoco.mjtGeom.mjGEOM_CAPSULE, size, position, quaternion, random_surface(rng))


def add_scene(spec: mujoco.MjSpec, scene: Scene) -> None:
    """Add the room, the lights and the props to the world, and colour the robot."""
    _colour_robot(spec, scene.robot_surfaces)
    head = spec.visual.headlight
    head.ambient, head.diffuse, head.specular = [scene.ambient] * 3, [scene.headlight] * 3, [0.0] * 3
    for light in scene.lights:
        spec.worldbody.add_light(
            pos=[0.0, 0.0, 3.0],
            dir=light.direction,
            diffuse=light.diffuse,
            type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
            castshadow=0,
        )
    _add_room(spec, scene)
    for i, prop in enumerate(scene.props):
        _add_prop(spec, spec.worldbody, f"prop_{i}", prop)
    for i, (link, prop) in enumerate(scene.attachments):
        _add_prop(spec, spec.body(link) or spec.worldbody, f"attachment_{i}", prop)


def _add_prop(spec: mujoco.MjSpec, body: mujoco.MjsBody, name: str, prop: Prop) -> None:
    body.add_geom(
        name=name,
        type=prop.shape,
        size=prop.size,
        pos=prop.position,
        quat=prop.quaternion,
        material=add_material(spec, name, prop.surface),
        mass=0.0,
        contype=0,
        conaffinity=0,
    )


def _add_room(spec: mujoco.MjSpec, scene: Scene) -> None:
    room, floor = scene.room, scene.floor_height
    materials = [add_image_material(spec, f"room_{i}", image, 2.0) for i, image in enumerate(scene.images)]
    box, thick = mujoco.mjtGeom.mjGEOM_BOX, 0.05
    spec.worldbody.add_geom(
        name="floor", type=box, size=[room, room, thick], pos=[0.0, 0.0, floor - thick], material=materials[0]
    )
    for i, (x, y) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
        spec.worldbody.add_geom(
            name=f"wall_{i}",
            type=box,
            size=[thick if x else room, thick if y else room, 2.0],
            pos=[x * room, y * room, floor + 2.0],
            material=materials[1 + i],
            contype=0,
            conaffinity=0,
        )
    if floor < 0.0:
        spec.worldbody.add_geom(
            name="pedestal",
            type=box,
            size=[0.12, 0.12, -floor / 2.0],
            pos=[0.0, 0.0, floor / 2.0],
            material=materials[0],
            contype=0,
            conaffinity=0,
        )


def _colour_robot(spec: mujoco.MjSpec, surfaces: tuple[Surface, ...]) -> None:
    names = [add_material(spec, f"robot_{i}", surface) for i, surface in enumerate(surfaces)]
    turn = 0
    for body in spec.bodies:
        for geom in body.geoms:
            geom.material, geom.rgba = names[turn % len(names)], [0.5, 0.5, 0.5, 1.0]  # MuJoCo: "not set"
        turn += bool(body.geoms)
