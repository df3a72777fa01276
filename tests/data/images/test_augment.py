"""Geometry and lighting of batches: known answers, bounds, one draw per image."""

import math

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor

from data.images import augment as module
from data.images.augment import (
    CORNERS,
    _symmetries,
    _warps,
    as_floats,
    augment,
    generator_of,
    homographies,
    light,
    lightings,
    warp,
    warp_points,
)
from data.images.settings import Augmentation

PLAIN = Augmentation(flip="none", rotate=0.0, zoom=1.0, warp=0.0, lighting=0.0)


def pictures(count: int = 6, size: int = 24, seed: int = 0) -> Tensor:
    """(count, 3, size, size) uint8, stored channels last."""
    drawn = torch.randint(0, 256, (count, size, size, 3), generator=generator_of(seed), dtype=torch.uint8)
    return drawn.permute(0, 3, 1, 2)


def only(**settings: object) -> Augmentation:
    """The plain augmentation with something switched on, with certainty."""
    return PLAIN.model_copy(update={"p_affine": 1.0, "p_lighting": 1.0, **settings})


def matrices(augmentation: Augmentation, count: int = 500, *, size: int = 32, aspect: float = 1.0) -> Tensor:
    return homographies(augmentation, count, size=size, generator=generator_of(1), aspect=aspect)


def test_the_defaults_are_those_of_the_course() -> None:
    """fastai v1, get_transforms: flip, rotate 10, zoom 1.1, lighting 0.2, warp 0.2, each with p 0.75."""
    assert Augmentation().model_dump() == {
        "flip": "horizontal", "rotate": 10.0, "zoom": 1.1, "warp": 0.2, "lighting": 0.2,
        "p_affine": 0.75, "p_lighting": 0.75, "pad": 0.0, "padding": "reflection",
    }  # fmt: skip


def test_without_any_change_the_pixels_are_exact() -> None:
    images = pictures()
    assert torch.equal(augment(images, PLAIN, size=24, generator=generator_of(1)), images.float() / 255)


def test_an_identity_among_other_homographies_stays_exact() -> None:
    images = pictures().float() / 255
    turns = matrices(only(rotate=10.0), 6)
    turns[2] = torch.eye(3)
    warped = warp(images, turns, 24)
    assert torch.equal(warped[2], images[2])
    assert (warped - images).abs().flatten(1).amax(1)[[0, 1, 3, 4, 5]].min() > 0.1


def test_a_marked_pixel_goes_where_the_homography_says() -> None:
    """Row 5, column 3 becomes column 28 by a flip, row 9 by a move, row 3 by a transposition."""
    images = torch.zeros(3, 1, 32, 32)
    images[:, 0, 5, 3] = 1
    steps = torch.eye(3).repeat(3, 1, 1)
    steps[0, 0, 0] = -1  # mirrored
    steps[1, 1, 2] = -2 * 4 / 32  # the output reads four rows higher
    steps[2] = torch.tensor([[0.0, 1, 0], [1, 0, 0], [0, 0, 1]])  # transposed
    warped = warp(images, steps, 32)
    places = [divmod(int(one.argmax()), 32) for one in warped[:, 0]]
    assert places == [(5, 28), (9, 3), (3, 5)]
    assert warped.flatten(1).amax(1).tolist() == pytest.approx([1, 1, 1], abs=1e-4)


def test_points_move_with_the_pixels() -> None:
    """A bright spot is found, after random homographies, where `warp_points` puts its centre."""
    size, spot = 64, (40, 22)
    images = torch.zeros(40, 1, size, size)
    images[:, 0, spot[0] - 1 : spot[0] + 2, spot[1] - 1 : spot[1] + 2] = 1
    drawn = matrices(Augmentation(), 40, size=size)
    point = torch.tensor([[(spot[1] + 0.5) / size * 2 - 1, (spot[0] + 0.5) / size * 2 - 1]]).double()
    expected = (warp_points(point.expand(40, 1, 2), drawn)[:, 0] + 1) / 2 * size - 0.5
    warped = warp(images, drawn, size)[:, 0].double()
    axis = torch.arange(size).double()
    mass = warped.sum((1, 2))
    found = torch.stack([(warped.sum(1) * axis).sum(1) / mass, (warped.sum(2) * axis).sum(1) / mass], -1)
    assert (found - expected).abs().max() < 0.3


def test_two_flips_are_the_identity_and_all_eight_symmetries_are_those_of_the_square() -> None:
    images = pictures().float() / 255
    flip = torch.diag(torch.tensor([-1.0, 1, 1])).expand(6, 3, 3)
    once = warp(images, flip, 24)
    assert torch.allclose(once, images.flip(-1), atol=1e-4)
    assert torch.allclose(warp(once, flip, 24), images, atol=2e-4)
    for number, matrix in enumerate(_symmetries(torch.arange(8))):
        # Bit 0 mirrors the source's columns and bit 1 its rows, after they were swapped.
        flips = [axis for bit, axis in ((1, -1), (2, -2)) if number & bit]
        expected = images.flip(flips) if not number & 4 else images.flip(flips).mT
        assert torch.allclose(warp(images, matrix.expand(6, 3, 3), 24), expected, atol=1e-4), number


@pytest.mark.parametrize(("flip", "seen"), [("none", 1), ("horizontal", 2), ("dihedral", 8)])
def test_flips_come_in_equal_shares(flip: str, seen: int) -> None:
    drawn = matrices(only(flip=flip), 4000)
    kinds, counts = torch.unique(drawn.flatten(1), dim=0, return_counts=True)
    assert len(kinds) == seen
    assert (counts / 4000 - 1 / seen).abs().max() < 0.03


def test_rotation_is_rigid_and_stays_within_its_limit() -> None:
    drawn = matrices(only(rotate=10.0))
    degrees = torch.rad2deg(torch.atan2(drawn[:, 1, 0], drawn[:, 0, 0]))
    assert 9.5 < degrees.abs().max() <= 10
    assert torch.allclose(torch.linalg.det(drawn), torch.ones(500).double())
    wide = matrices(only(rotate=10.0), aspect=2.0)
    scale = torch.diag(torch.tensor([2.0, 1, 1]).double())  # to a scale on which both axes have equal units
    assert torch.allclose(scale @ wide @ scale.inverse(), drawn)


def test_zoom_reads_from_inside_of_the_image() -> None:
    drawn = matrices(only(zoom=1.5))
    assert 1 <= (1 / drawn[:, 0, 0]).min() < 1.01
    assert 1.49 < (1 / drawn[:, 0, 0]).max() <= 1.5
    corners = torch.tensor([[x, y, 1.0] for x, y in CORNERS]).double() @ drawn.mT
    assert corners[..., :2].abs().max() <= 1 + 1e-9


def test_warp_is_a_perspective_that_keeps_the_symmetry_of_fastai() -> None:
    """What is at the moved corners of the output is read from the corners of the image; at most 0.2 away."""
    drawn = matrices(only(warp=0.2))
    moved = warp_points(torch.tensor(CORNERS).double().expand(500, 4, 2), drawn)
    moves = (moved - torch.tensor(CORNERS).double()).abs()
    assert 0.19 < moves.max() <= 0.2 + 1e-9
    assert torch.allclose(moved[:, 0, 1], -moved[:, 1, 1])  # the left side grows or shrinks about its middle
    assert torch.allclose(moved[:, 0, 0], -moved[:, 2, 0])  # so does the upper one
    assert (drawn[:, 2, :2].abs().amax(1) > 1e-3).double().mean() > 0.95  # not affine


def test_pad_and_crop_moves_by_whole_pixels() -> None:
    """CIFAR-10 in the course: 4 pixels of reflection at each side of 32, then a random crop of 32."""
    drawn = matrices(only(pad=1 / 8), 3000)
    moves = drawn[:, :2, 2] * 16
    assert torch.equal(moves, moves.round())
    assert set(moves.flatten().tolist()) == set(map(float, range(-4, 5)))
    images = pictures(1, 32).float() / 255
    step = torch.eye(3)[None].clone()
    step[0, 0, 2] = 2 * 3 / 32
    for padding, beyond in (("reflection", images[..., 29:].flip(-1)), ("zeros", torch.zeros(1, 3, 32, 3))):
        moved = warp(images, step, 32, padding=padding)
        assert torch.allclose(moved[..., :29], images[..., 3:], atol=1e-4)
        assert torch.allclose(moved[..., 29:], beyond, atol=1e-4)


def test_masks_keep_their_values_under_nearest() -> None:
    masks = torch.randint(0, 5, (8, 1, 40, 40), generator=generator_of(3)).float()
    warped = warp(masks, matrices(Augmentation(), 8), (20, 30), mode="nearest")
    assert warped.shape == (8, 1, 20, 30)
    assert set(warped.unique().tolist()) <= {0, 1, 2, 3, 4}


def test_every_image_of_a_batch_has_its_own_parameters() -> None:
    one = pictures(1).expand(16, -1, -1, -1)
    made = augment(one, Augmentation(p_affine=1.0, p_lighting=1.0), size=24, generator=generator_of(4))
    distances = torch.cdist(made.flatten(1), made.flatten(1)) + torch.eye(16) * 1e9
    assert distances.min() > 0.5


def test_probabilities_are_kept_for_each_transform() -> None:
    drawn = matrices(PLAIN.model_copy(update={"rotate": 10.0}), 4000)
    assert (drawn[:, 0, 1] != 0).double().mean() == pytest.approx(0.75, abs=0.03)
    shift, scale = lightings(Augmentation(), 4000, generator=generator_of(5))
    assert (shift != 0).double().mean() == pytest.approx(0.75, abs=0.03)
    assert (scale != 1).double().mean() == pytest.approx(0.75, abs=0.03)


def test_lighting_stays_within_its_bounds() -> None:
    """Half-grey comes out between 0.4 and 0.6 by brightness of 0.2; contrast lies between 0.8 and 1 / 0.8."""
    shift, scale = lightings(only(lighting=0.2), 2000, generator=generator_of(6))
    grey = light(torch.full((2000, 1, 1, 1), 0.5), shift, torch.ones(2000)).flatten()
    assert 0.4 - 1e-6 <= grey.min() < 0.405
    assert 0.595 < grey.max() <= 0.6 + 1e-6
    assert 0.8 - 1e-9 <= scale.min() < 0.81
    assert 1.24 < scale.max() <= 1.25 + 1e-9
    assert scale.log().mean().abs() < 0.01
    extremes = light(torch.tensor([0.0, 1.0]).repeat(2000, 1, 1, 1), shift, scale)
    assert extremes.min() >= 0
    assert extremes.max() <= 1
    images = pictures(2).float() / 255
    untouched = light(images, torch.zeros(2), torch.ones(2))
    assert torch.allclose(untouched, images, atol=1e-6)


def test_the_output_is_float32_of_the_size_in_range_and_channels_last() -> None:
    made = augment(pictures(19, 40), Augmentation(), size=32, generator=generator_of(7))
    assert made.shape == (19, 3, 32, 32)
    assert made.dtype == torch.float32
    assert made.is_contiguous(memory_format=torch.channels_last)
    assert made.min() >= 0
    assert made.max() <= 1


def test_the_same_numbers_give_the_same_images_and_other_numbers_others() -> None:
    images = pictures()

    def made(*numbers: int) -> Tensor:
        return augment(images, Augmentation(), size=24, generator=generator_of(*numbers))

    assert torch.equal(made(1, 2, 3), made(1, 2, 3))
    assert not any(
        torch.equal(made(1, 2, 3), made(*other)) for other in ((1, 2, 4), (1, 3, 3), (2, 2, 3), (12, 3))
    )


def test_torchs_own_generator_is_left_alone() -> None:
    before = torch.get_rng_state()
    augment(pictures(), Augmentation(), size=24, generator=generator_of(8))
    assert torch.equal(torch.get_rng_state(), before)


def test_one_setting_does_not_change_the_draws_of_another() -> None:
    with_zoom, without = matrices(only(flip="horizontal", zoom=1.3)), matrices(only(flip="horizontal"))
    assert torch.equal(with_zoom[:, 0, 0].sign(), without[:, 0, 0])


@pytest.mark.parametrize(
    "wrong", [{"rotate": -1.0}, {"zoom": 0.9}, {"flip": "both"}, {"lighting": 1.0}, {"tilt": 1}]
)
def test_wrong_settings_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        Augmentation.model_validate(wrong)


@pytest.mark.parametrize(
    "idle", [{"rotate": 0.0, "zoom": 1.0, "warp": 0.0, "p_affine": 0.5}, {"lighting": 0.0, "p_lighting": 0.5}]
)
def test_a_setting_without_effect_is_an_error(idle: dict[str, float]) -> None:
    with pytest.raises(ValidationError, match="has no effect"):
        Augmentation.model_validate(idle)


def test_reflection_at_large_angles_has_no_black_corner() -> None:
    white = torch.ones(32, 3, 24, 24)
    turned = warp(white, matrices(only(rotate=180.0), 32), 24)
    assert turned.min() == pytest.approx(1, abs=1e-5)
    dark = warp(white, matrices(only(rotate=180.0), 32), 24, padding="zeros")
    assert dark.min() == 0
    assert math.isclose(float(dark.max()), 1, abs_tol=1e-5)


def plainly(images: Tensor, matrices: Tensor, size: int, padding: str) -> Tensor:
    """The definition of `warp`, pixel by pixel in float64, with the kernel's own padding."""
    centres = (torch.arange(size).double() * 2 + 1) / size - 1
    y, x = torch.meshgrid(centres, centres, indexing="ij")
    read = torch.stack([x, y, torch.ones_like(x)], -1) @ matrices.double().mT[:, None]
    grid = read[..., :2] / read[..., 2:]
    return F.grid_sample(images.double(), grid, padding_mode=padding, align_corners=False).float()


@pytest.mark.parametrize("padding", ["reflection", "border", "zeros"])
@pytest.mark.parametrize("far", [0.0, 1.9, 4.0, 9.0])
def test_images_are_read_as_plainly_defined_however_far_outside(padding: str, far: float) -> None:
    """One mirror image is folded by hand, more are left to the kernel."""
    images = pictures(12, 30).float() / 255
    moved = matrices(Augmentation(p_affine=1.0), 12)
    moved[:, 0, 2] += far
    warped = warp(images, moved, 24, padding=padding)
    torch.testing.assert_close(warped, plainly(images, moved, 24, padding), rtol=0, atol=2e-4)


def test_the_number_of_images_at_once_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    images, made = as_floats(pictures(13, 30)), []
    for count in (1, 4, 100):
        monkeypatch.setattr(module, "CHUNK", count)
        made.append(augment(images, Augmentation(), size=24, generator=generator_of(9)))
    assert torch.equal(made[0], made[1])
    assert torch.equal(made[0], made[2])


def test_warps_solve_the_equations_of_the_four_corners() -> None:
    """Each moved corner of the output is read at the corner of the image: eight equations for the matrix."""
    moves = (torch.rand(50, 4, generator=generator_of(10)) - 0.5).double() * 0.8
    right, left, bottom, top = (1 + moves).unbind(1)
    targets = torch.stack([-top, -left, -bottom, left, top, -right, bottom, right], 1).view(50, 4, 2)
    read = torch.cat([targets, torch.ones(50, 4, 1).double()], 2) @ _warps(moves).mT
    expected = torch.tensor(CORNERS).double().expand(50, 4, 2)
    torch.testing.assert_close(read[..., :2] / read[..., 2:], expected)
    assert torch.equal(_warps(moves)[:, 2, 2], torch.ones(50).double())
