import math
import os

import numpy as np
import pytest

from collectors.bullet import silenced
from collectors.sim import (
    GRAVITY_M_S2,
    TIME_STEP_S,
    Box,
    Camera,
    Cylinder,
    Link,
    Shape,
    Simulation,
    Sphere,
)

RED = (1.0, 0.0, 0.0)
FROM_ABOVE = Camera((0.0, 0.0, 0.0), 1.0, 0.0, -89.9, 60.0, 0.1, 5.0, (0.0, 0.0, 1.0))


def lump(shape: Shape, *, mass: float = 1.0) -> tuple[Link, ...]:
    return (Link("lump", (shape,), mass_kg=mass),)


def two_link_arm() -> tuple[Link, ...]:
    stick = Box((0.2, 0.02, 0.02), RED, at_m=(0.1, 0.0, 0.0))
    return (
        Link("base", (Box((0.1, 0.1, 0.1), RED),)),
        Link("upper", (stick,), mass_kg=1.0, joint="revolute", at_m=(0.05, 0.0, 0.0)),
        Link("lower", (stick,), mass_kg=1.0, parent=1, joint="revolute", at_m=(0.2, 0.0, 0.0)),
    )


def test_a_body_falls_as_the_integrator_says() -> None:
    with Simulation() as sim:
        sim.add("ball", lump(Sphere(0.05, RED)), (0.0, 0.0, 10.0))
        sim.step(24)
        height = sim.pose("ball")[0][2]
    # velocity first, then position: after n steps g dt² (1 + 2 + … + n); damping takes a little
    fall = GRAVITY_M_S2 * TIME_STEP_S**2 * 24 * 25 / 2
    assert height == pytest.approx(10.0 + fall, abs=abs(fall) * 0.005)


@pytest.mark.parametrize(
    ("shape", "height"),
    [
        (Box((0.2, 0.2, 0.3), RED), 0.15),
        (Sphere(0.07, RED), 0.07),
        (Cylinder(0.1, 0.26, RED), 0.13),
        (Cylinder(0.1, 0.26, RED, quat=(math.sqrt(0.5), 0.0, 0.0, math.sqrt(0.5))), 0.1),
    ],
    ids=["box", "sphere", "cylinder", "lying cylinder"],
)
def test_a_shape_comes_to_rest_at_its_own_size(shape: Shape, height: float) -> None:
    with Simulation() as sim:
        sim.add("floor", lump(Box((4.0, 4.0, 0.2), RED), mass=0.0), (0.0, 0.0, -0.1))
        sim.add("lump", lump(shape), (0.0, 0.0, height + 0.01))
        sim.step(240)
        assert sim.pose("lump")[0][2] == pytest.approx(height, abs=0.002)


def test_link_frames_follow_the_joints() -> None:
    with Simulation() as sim:
        sim.add("arm", two_link_arm(), (0.0, 0.0, 1.0))
        sim.place_joints("arm", (1, 2), (0.5, 0.3))
        (x, y, z), quat = sim.link_pose("arm", 2)
        assert sim.joint_positions("arm", (2, 1)) == pytest.approx((0.3, 0.5))
    assert (x, y, z) == pytest.approx((0.05 + 0.2 * math.cos(0.5), 0.2 * math.sin(0.5), 1.0), abs=1e-6)
    assert quat == pytest.approx((0.0, 0.0, math.sin(0.4), math.cos(0.4)), abs=1e-6)


def test_a_motor_removes_its_gain_of_the_error_in_each_step() -> None:
    with Simulation() as sim:
        sim.add("arm", two_link_arm(), (0.0, 0.0, 1.0))
        sim.drive_joints("arm", (1, 2), (1.0, 0.0), force=1000.0, gain=0.03)
        sim.step(10)
        assert sim.joint_positions("arm", (1,))[0] == pytest.approx(1 - 0.97**10, abs=0.005)


def test_geared_joints_mirror_each_other() -> None:
    finger = Box((0.1, 0.02, 0.02), RED)
    links = (
        Link("base", (Box((0.1, 0.1, 0.1), RED),)),
        Link("left", (finger,), mass_kg=0.1, joint="prismatic", axis=(0.0, 1.0, 0.0)),
        Link("right", (finger,), mass_kg=0.1, joint="prismatic", axis=(0.0, 1.0, 0.0)),
    )
    with Simulation() as sim:
        sim.add("hand", links, (0.0, 0.0, 1.0))
        sim.gear("hand", (1, 2), force=1000.0)
        sim.drive_joints("hand", (1,), (0.05,), force=10.0, gain=0.1)
        sim.drive_joints("hand", (2,), (0.0,), force=0.0, gain=0.1)
        sim.step(100)
        left, right = sim.joint_positions("hand", (1, 2))
    assert left == pytest.approx(0.05, abs=0.001)
    assert right == pytest.approx(-0.05, abs=0.001)


def test_a_picture_shows_what_stands_where() -> None:
    with Simulation() as sim:
        sim.add("left", lump(Box((0.3, 0.3, 0.1), (1.0, 0.0, 0.0)), mass=0.0), (-0.3, 0.0, 0.0))
        sim.add("right", lump(Box((0.3, 0.3, 0.1), (0.0, 0.0, 1.0)), mass=0.0), (0.3, 0.0, 0.0))
        image = sim.render(FROM_ABOVE, 40, 60)
    assert image.shape == (40, 60, 3)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    red, blue = image[20, 20], image[20, 40]
    assert red[0] > 150
    assert red[2] < 20
    assert blue[2] > 150
    assert blue[0] < 20


def test_each_picture_shape_has_its_own_aspect() -> None:
    with Simulation() as sim:
        sim.add("disc", lump(Sphere(0.2, RED), mass=0.0), (0.0, 0.0, 0.0))
        for height, width in ((60, 60), (60, 120), (120, 60)):
            image = sim.render(FROM_ABOVE, height, width)
            seen = (image[:, :, 0] > 100) & (image[:, :, 1] < 50)
            assert seen.any(axis=0).sum() == pytest.approx(seen.any(axis=1).sum(), abs=2)


def test_names_are_taken_once_until_the_world_is_cleared() -> None:
    with Simulation() as sim:
        sim.add("lump", lump(Sphere(0.1, RED)), (0.0, 0.0, 0.0))
        with pytest.raises(ValueError, match="'lump'"):
            sim.add("lump", lump(Sphere(0.1, RED)), (0.0, 0.0, 0.0))
        sim.clear()
        sim.add("lump", lump(Sphere(0.1, RED)), (0.0, 0.0, 0.0))


def test_closing_twice_is_fine() -> None:
    sim = Simulation()
    sim.close()
    sim.close()


def test_two_worlds_are_independent() -> None:
    with Simulation() as one, Simulation() as other:
        one.add("ball", lump(Sphere(0.1, RED)), (0.0, 0.0, 1.0))
        other.add("ball", lump(Sphere(0.1, RED)), (0.0, 0.0, 2.0))
        one.step(10)
        assert one.pose("ball")[0][2] < 1.0
        assert other.pose("ball")[0][2] == 2.0


def test_silenced_swallows_what_c_prints_and_nothing_after(capfd: pytest.CaptureFixture[str]) -> None:
    with silenced():
        os.write(1, b"from C")
        os.write(2, b"from C")
    os.write(1, b"from us")
    assert capfd.readouterr() == ("from us", "")


def test_a_world_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with Simulation() as sim:
        sim.add("arm", two_link_arm(), (0.0, 0.0, 1.0))
        sim.step(3)
        sim.render(FROM_ABOVE, 8, 8)
        sim.clear()
    assert capfd.readouterr() == ("", "")
