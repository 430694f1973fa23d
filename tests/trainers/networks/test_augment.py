from __future__ import annotations

import pytest
import torch

from tests.trainers.toy import KINDS, make_spec, seeded, small_learner, tensors
from trainers.networks.augment import augment, random_crop


def test_every_crop_is_a_window_of_the_padded_image() -> None:
    image = torch.arange(6 * 5 * 5 * 3, dtype=torch.uint8).view(6, 5, 5, 3)
    cropped = random_crop(image, 2, seeded(0))
    padded = torch.zeros(6, 9, 9, 3, dtype=torch.uint8)
    padded[:, 2:7, 2:7] = image
    for row in range(6):
        windows = [padded[row, y : y + 5, x : x + 5] for y in range(5) for x in range(5)]
        assert sum(torch.equal(cropped[row], window) for window in windows) >= 1


def test_offsets_cover_the_range_and_differ_between_images() -> None:
    image = torch.full((4000, 8, 8, 3), 255, dtype=torch.uint8)
    cropped = random_crop(image, 2, seeded(1))
    rows = (cropped[:, :, 4, 0] == 0).float()  # black rows on top or at the bottom say the vertical offset
    top, bottom = rows[:, :4].sum(1), rows[:, 4:].sum(1)
    offset = 2 - top + bottom
    share = torch.bincount(offset.long(), minlength=5) / 4000
    assert share.min() > 0.17
    assert share.max() < 0.23


def test_the_generator_decides() -> None:
    image = torch.randint(256, (9, 8, 8, 3), dtype=torch.uint8)
    assert torch.equal(random_crop(image, 4, seeded(3)), random_crop(image, 4, seeded(3)))
    assert not torch.equal(random_crop(image, 4, seeded(3)), random_crop(image, 4, seeded(4)))


def test_both_observations_are_cropped_and_the_rest_passes() -> None:
    batch = tensors("image+robot", 32)
    cropped = augment(batch, make_spec("image+robot").obs, 4, seeded(0))
    for before, after in ((batch.obs, cropped.obs), (batch.next_obs, cropped.next_obs)):
        assert not torch.equal(before["image"], after["image"])
        assert before["robot"] is after["robot"]
    assert augment(batch, make_spec("image+robot").obs, 0, seeded(0)) is batch


def test_a_state_draws_no_offsets() -> None:
    generator = seeded(0)
    before = generator.get_state()
    augment(tensors("state", 4), make_spec("state").obs, 4, generator)
    assert torch.equal(generator.get_state(), before)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind.startswith("image")])
@pytest.mark.parametrize("algo", ["bc", "bfn", "cql"])
def test_crops_happen_in_training_only(algo: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(image: torch.Tensor, pad_px: int, generator: torch.Generator) -> torch.Tensor:
        calls.append(pad_px)
        return random_crop(image, pad_px, generator)

    monkeypatch.setattr("trainers.networks.augment.random_crop", counted)
    learner = small_learner(algo, kind, "crop_px=4")
    batch = tensors(kind, 8)
    learner.update(batch, seeded(0))
    assert calls == [4, 4]
    for count in (1, 8):  # whatever the batch size
        obs = tensors(kind, count).obs
        learner.act(obs, torch.zeros(count, *learner.noise_shape))
    assert calls == [4, 4]
