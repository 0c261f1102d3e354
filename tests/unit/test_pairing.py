"""Colour and depth images meet by stamp."""

import pytest

from ideomotor.body.pairing import ImagePairing, PairingError


def feed(p: ImagePairing[str], *, depth_late: float | None) -> None:
    for i in range(20):
        p.add_colour(float(i), "c")
        if depth_late is not None:
            p.add_depth(i + depth_late, "d")


def pairing() -> ImagePairing[str]:
    return ImagePairing(tolerance=0.01)


@pytest.mark.parametrize("colour_first", [True, False])
def test_order_of_arrival_does_not_matter(colour_first: bool) -> None:
    p = pairing()
    for colour in (colour_first, not colour_first):
        assert p.take() is None
        (p.add_colour if colour else p.add_depth)(1.0, "colour" if colour else "depth")
    pair = p.take()
    assert pair is not None
    assert (pair.stamp, pair.colour, pair.depth) == (1.0, "colour", "depth")
    assert p.take() is None


def test_the_nearest_partner_is_taken() -> None:
    p = pairing()
    p.add_depth(0.995, "before")
    p.add_depth(1.002, "after")
    p.add_colour(1.0, "colour")
    pair = p.take()
    assert pair is not None
    assert pair.depth == "after"


def test_a_newer_pair_replaces_one_that_waits_and_is_counted() -> None:
    p = pairing()
    for i in range(3):
        p.add_colour(float(i), f"c{i}")
        p.add_depth(float(i), f"d{i}")
    pair = p.take()
    assert pair is not None
    assert (pair.colour, pair.depth, p.dropped) == ("c2", "d2", 2)


def test_pairs_wait_in_order_and_the_oldest_gives_way() -> None:
    p: ImagePairing[str] = ImagePairing(tolerance=0.01, backlog=2)
    for i in range(3):
        p.add_colour(float(i), f"c{i}")
        p.add_depth(float(i), f"d{i}")
    assert (p.waiting, p.dropped) == (2, 1)
    taken = [p.take(), p.take(), p.take()]
    assert [pair and pair.colour for pair in taken] == ["c1", "c2", None]


def test_images_of_different_time_are_never_paired_and_say_so() -> None:
    p = pairing()
    with pytest.raises(PairingError, match=r"newest stamps .* expected within 0.01 s"):
        feed(p, depth_late=0.5)
    assert p.take() is None


def test_missing_depth_is_named() -> None:
    p = pairing()
    with pytest.raises(PairingError, match="no depth image"):
        feed(p, depth_late=None)


def test_a_lost_depth_image_costs_one_colour_image_only() -> None:
    p = pairing()
    p.add_colour(1.0, "c1")
    p.add_colour(2.0, "c2")
    p.add_depth(2.0, "d2")
    pair = p.take()
    assert pair is not None
    assert (pair.colour, p.unpaired) == ("c2", 1)


def test_time_going_back_begins_anew() -> None:
    p = pairing()
    p.add_colour(100.0, "old")
    p.add_colour(0.0, "c")
    p.add_depth(0.0, "d")
    pair = p.take()
    assert pair is not None
    assert pair.colour == "c"
