from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cogdata.layout1 import ACTION
from tests.trainers.toy import make_spec, seeded, tensors, version1
from trainers.algorithm import ActionSpec, Spec, TensorObs
from trainers.networks import modules as networks
from trainers.networks.encoders import (
    ENCODERS,
    FastEncoder,
    HandEyeEncoder,
    Inputs,
    PaperEncoder,
    Points,
)
from trainers.networks.flow import Flow
from trainers.networks.images import scaled
from trainers.networks.modules import (
    Critics,
    GaussianPolicy,
    follow,
    tanh_normal,
    tanh_normal_log_density,
)
from trainers.networks.vectors import Vectors, quaternion_starts


@pytest.mark.parametrize(("mean", "log_std"), [(0.0, 0.0), (0.7, -1.0), (-1.2, -0.3)])
def test_tanh_normal_density_integrates_to_one(mean: float, log_std: float) -> None:
    # substitute a = tanh(u): the grid is dense where the density is steep
    u = torch.linspace(-7, 7, 40_001, dtype=torch.float64)
    action = torch.tanh(u).clamp(-1 + 1e-6, 1 - 1e-6)
    density = tanh_normal_log_density(
        torch.full((1,), mean, dtype=torch.float64),
        torch.full((1,), log_std, dtype=torch.float64),
        action[:, None],
    ).exp()
    assert torch.trapezoid(density, action).item() == pytest.approx(1, abs=2e-4)


def test_density_of_a_standard_normal_at_zero_is_known() -> None:
    # tanh'(0) = 1, so the density at 0 is the normal's, (2π)^(-1/2) per dimension
    log_density = tanh_normal_log_density(torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1, 3))
    assert log_density.item() == pytest.approx(-1.5 * math.log(2 * math.pi))


def test_density_is_finite_at_the_edge() -> None:
    action = torch.tensor([[0.999999, -0.999999, 1.0, -1.0]])
    mean = torch.zeros(1, 4, requires_grad=True)
    log_density = tanh_normal_log_density(mean, torch.full((1, 4), -5.0), action)
    log_density.sum().backward()
    assert log_density.isfinite().all()
    assert mean.grad is not None
    assert mean.grad.isfinite().all()


def test_density_of_a_sample_far_out_does_not_cancel() -> None:
    # u = 12: 1 - tanh² is 1.5e-10 and rounds to 0 in float32; the exact value is 2(log 2 - 12) to 1e-10
    _, log_density = tanh_normal(torch.tensor([[12.0]]), torch.tensor([[0.0]]), torch.tensor([[0.0]]))
    assert log_density.item() == pytest.approx(
        -0.5 * math.log(2 * math.pi) - 2 * (math.log(2) - 12), abs=1e-4
    )


def test_sample_and_density_agree() -> None:
    mean, log_std = torch.tensor([[0.3, -0.5]]), torch.tensor([[-0.7, 0.2]])
    action, log_density = tanh_normal(mean, log_std, torch.tensor([[0.4, -1.1]]))
    assert log_density.item() == pytest.approx(
        tanh_normal_log_density(mean, log_std, action).item(), abs=1e-4
    )


def test_paper_networks_have_the_published_number_of_parameters() -> None:
    """Layers of arXiv 2010.14500, A.2, and avisingh599/cog @ 98252e1, weights and biases counted by hand.

    Convolutions 448 + 2 · 2,320 = 5,088. Q: + 2,312 · 1,024 + 1,024 + 524,800 + 131,328 + 257 = 3,029,985;
    policy: + 2,304 · 1,024 + 1,024 + 524,800 + 131,328 + 3 · 65,792 + 2 · 2,056 = 3,223,024.
    """
    spec = version1("image", (48, 48), (), (), ())
    encoder = PaperEncoder((48, 48))
    assert encoder.dim == 2304

    def count(module: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in module.parameters())

    q = count(encoder) + count(Critics(1, encoder.dim, 8, (1024, 512, 256), norm=False))
    policy = count(GaussianPolicy(Spec(spec, ActionSpec(ACTION)), "paper", (1024, 512, 256, 256, 256, 256)))
    assert q == 3_029_985
    assert policy == 3_223_024


@pytest.mark.parametrize("kind", ENCODERS.values())
@pytest.mark.parametrize("size", [(16, 20), (48, 48), (64, 64)])
def test_encoders_give_the_width_they_promise(
    kind: type[PaperEncoder] | type[FastEncoder], size: tuple[int, int]
) -> None:
    encoder = kind(size)
    assert encoder(torch.rand(3, 3, *size)).shape == (3, encoder.dim)


def test_keypoints_are_where_the_bright_spots_are_and_the_way_between_them() -> None:
    """Convolutions pass red and green on as they are: keypoint 0 looks for red, 1 for green.

    4 × 4 map over [-1, 1]: red at row 1, column 3 is (-1/3, 1), green at row 2, column 0 is (1/3, -1); the way
    from the second to the first, the first of the pairs, is (-2/3, 2).
    """
    encoder = FastEncoder((16, 16))
    with torch.no_grad():
        for parameter in (*encoder.convolutions.parameters(), *encoder.maps.parameters()):
            parameter.zero_()
        for channel in range(2):
            for layer in (0, 2):
                convolution = encoder.convolutions[layer]
                assert isinstance(convolution, torch.nn.Conv2d)
                middle = convolution.kernel_size[0] // 2
                convolution.weight[channel, channel, middle, middle] = 2.0  # a spot is 0.5 after the shift
            encoder.maps.weight[channel, channel] = 100.0
    image = torch.zeros(1, 3, 16, 16)
    image[0, 0, 4, 12] = image[0, 1, 8, 0] = 1.0
    features = encoder(image)[0]
    red, green = torch.tensor([-1 / 3, 1.0]), torch.tensor([1 / 3, -1.0])
    torch.testing.assert_close(features[:4], torch.cat([red, green]), atol=1e-3, rtol=0)
    ways = features[2 * 16 + 64 :]
    count = 16 * 15 // 2 * 2
    torch.testing.assert_close(ways[:2], (red - green) / 0.3, atol=1e-2, rtol=0)
    torch.testing.assert_close(ways[count : count + 2], torch.tanh((red - green) / 0.12), atol=1e-2, rtol=0)


def test_split_first_layer_equals_the_joined_one() -> None:
    critics = Critics(2, 5, 8, (4,), norm=False)
    features, actions = torch.randn(3, 5), torch.randn(6, 3, 8)
    values = critics(features, actions)
    for e in range(2):
        weight = torch.cat([critics.from_features.weight[e], critics.from_action.weight[e]])
        assert critics.from_features.bias is not None
        assert critics.out.bias is not None
        for n in range(6):
            joined = torch.cat([features, actions[n]], dim=1) @ weight + critics.from_features.bias[e]
            expected = torch.relu(joined) @ critics.out.weight[e] + critics.out.bias[e]
            torch.testing.assert_close(values[e, n], expected[:, 0])


def test_critics_do_not_share_weights() -> None:
    critics = Critics(2, 5, 8, (4, 4), norm=True)
    values = critics(torch.randn(3, 5), torch.randn(1, 3, 8))
    values[0].sum().backward()
    grad = critics.hidden[0].weight.grad
    assert isinstance(grad, torch.Tensor)
    assert grad[0].abs().sum() > 0
    assert grad[1].abs().sum() == 0


def test_gradients_in_bfloat16_are_near_and_values_are_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rounding the factors of 64-term sums to 8 bits moves a gradient by about 2⁻⁸ of its length, .4 %."""
    monkeypatch.setattr(networks, "has_bfloat16", lambda device: True)  # emulated where it is not there
    exact, rounded = (
        Critics(2, 5, 8, (64, 64), norm=False),
        Critics(2, 5, 8, (64, 64), norm=False, half_gradients=True),
    )
    rounded.load_state_dict(exact.state_dict())
    features, actions = torch.randn(32, 5), torch.randn(3, 32, 8, requires_grad=True)
    values = [critics(features, actions) for critics in (exact, rounded)]
    assert torch.equal(values[0], values[1])
    (by_action, again) = (torch.autograd.grad(value.sum(), actions, retain_graph=True)[0] for value in values)
    assert (again - by_action).norm() < 0.01 * by_action.norm()
    assert not torch.equal(again, by_action)
    for value in values:
        value.square().sum().backward()
    for one, two in zip(exact.parameters(), rounded.parameters(), strict=True):
        assert one.grad is not None
        assert two.grad is not None
        assert (two.grad - one.grad).norm() < 0.01 * one.grad.norm()


def test_frames_encoded_in_parts_are_the_same_features() -> None:
    """70 frames are 32 + 32 + 6; so are their gradients, and frames that were cast before."""
    inputs = Inputs(version1("image", (16, 16), (), (), ()), "paper")
    image = torch.randint(0, 256, (70, 16, 16, 3), generator=seeded(0), dtype=torch.uint8)
    whole = inputs.encoders["image"](image.permute(0, 3, 1, 2) / 255)
    parts = inputs(TensorObs({"image": image}))
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-5)
    assert torch.equal(inputs(TensorObs({"image": scaled(image, inputs.images[0])})), parts)
    one, two = (torch.autograd.grad(out.square().sum(), list(inputs.parameters())) for out in (whole, parts))
    torch.testing.assert_close(one, two, atol=1e-4, rtol=1e-4)


def test_flow_steps_add_up_a_constant_velocity() -> None:
    flow = Flow(3, 8, (4, 4))
    with torch.no_grad():
        flow.out.weight.zero_()
        flow.out.bias.fill_(0.25)
    noise = torch.full((2, 5, 8), 0.1)
    torch.testing.assert_close(flow.sample(torch.randn(5, 3), noise, 4), torch.full((2, 5, 8), 0.35))


def test_flow_samples_as_its_velocity_says() -> None:
    flow = Flow(3, 8, (4, 4))
    features, x = torch.randn(5, 3), torch.randn(1, 5, 8) * 0.1
    one = x[0] + flow(features, x[0], torch.zeros(5, 1)) / 2
    two = one + flow(features, one, torch.full((5, 1), 0.5)) / 2
    torch.testing.assert_close(flow.sample(features, x, 2)[0], two.clamp(-1, 1))


def test_quaternions_are_found_by_name() -> None:
    names = (
        "ee_x_m",
        "ee_qx",
        "ee_qy",
        "ee_qz",
        "ee_qw",
        "gap",
        "object_qx",
        "object_qy",
        "object_qz",
        "object_qw",
    )
    assert quaternion_starts(names) == [1, 6]


def test_a_rotation_is_read_as_two_columns_of_its_matrix() -> None:
    vectors = Vectors(version1("image+robot", (16, 16), (), (0.0,) * 10, (1.0,) * 10))
    robot = torch.zeros(2, 10)
    half = math.sqrt(0.5)
    robot[:, 3:7] = torch.tensor([[0, 0, half, half], [0, 0, -half, -half]])  # 90° about z, written both ways
    features = vectors(TensorObs({"robot": robot}))
    # x goes to y, y goes to -x
    torch.testing.assert_close(features[:, 6:], torch.tensor([[0.0, 1, 0, -1, 0, 0]]).expand(2, 6))


def test_the_way_to_a_thing_is_added_coarse_and_fine() -> None:
    fields = ("object_x_m", "object_y_m", "object_z_m")
    vectors = Vectors(version1("state", (16, 16), fields, (0.0,) * 13, (1.0,) * 13))
    robot = torch.zeros(1, 10)
    robot[0, :3] = torch.tensor([0.6, 0.1, -0.3])
    features = vectors(TensorObs({"robot": robot, "scene": torch.tensor([[0.7, 0.1, -0.31]])}))[0]
    assert vectors.dim == len(features) == 6 + 3 + 6 + 6
    torch.testing.assert_close(features[-6:-3], torch.tensor([2.0, 0.0, -0.2]))  # in units of 5 cm
    torch.testing.assert_close(features[-3:], torch.tanh(torch.tensor([5.0, 0.0, -0.5])))  # in units of 2 cm


def test_the_hand_eye_encoder_adds_the_ways_from_the_hand_to_its_points() -> None:
    """The only reading off is the bias: point 0 lies 10 cm ahead of the middle of where the hand goes, 0.5 m."""
    mean = (0.5, *(0.0,) * 9)
    robot = torch.zeros(2, 10)
    robot[:, 0] = torch.tensor([0.5, 0.58])
    obs = TensorObs({"image": torch.zeros(2, 16, 16, 3, dtype=torch.uint8), "robot": robot})
    inputs = Inputs(version1("image+robot", (16, 16), (), mean, (1.0,) * 10), "hand_eye")
    encoder = inputs.encoders["image"]
    assert isinstance(encoder, HandEyeEncoder)
    with torch.no_grad():
        encoder.places.weight.zero_()
        encoder.places.bias.zero_()
        encoder.places.bias[0] = 1.0
    features = inputs(obs)
    assert features.shape == (2, inputs.dim)
    count = 3 * Points.count
    coarse, fine = features[:, -2 * count : -count], features[:, -count:]
    torch.testing.assert_close(coarse[:, 0], torch.tensor([2.0, 0.4]))  # in units of 5 cm
    torch.testing.assert_close(fine[:, 0], torch.tanh(torch.tensor([5.0, 1.0])))  # in units of 2 cm
    torch.testing.assert_close(coarse[:, 3], torch.tensor([0.0, -1.6]))  # point 1 is the middle itself


def test_the_hand_eye_encoder_of_frames_alone_is_the_fast_one() -> None:
    spec = version1("image", (16, 16), (), (), ())
    hand_eye, fast = Inputs(spec, "hand_eye"), Inputs(spec, "fast")
    assert hand_eye.dim == fast.dim
    hand_eye.load_state_dict(fast.state_dict(), strict=False)
    obs = TensorObs({"image": torch.randint(256, (2, 16, 16, 3), dtype=torch.uint8)})
    assert torch.equal(hand_eye(obs), fast(obs))


def test_vectors_are_normalised_and_bounded() -> None:
    mean, std = (1.0, *(0.0,) * 9), (2.0, 0.0, *(1.0,) * 8)
    vectors = Vectors(version1("image+robot", (16, 16), (), mean, std))
    robot = torch.zeros(1, 10)
    robot[0, 0], robot[0, 1], robot[0, 9] = 5.0, 0.005, 1e9
    features = vectors(TensorObs({"robot": robot}))[0]
    assert features[0] == 2  # (5 - 1) / 2
    assert features[1] == pytest.approx(5)  # the floor of 1 mm, not a division by 0
    assert features[5] == 10  # clipped


def test_follow_moves_by_the_rate() -> None:
    target, source = torch.nn.Linear(2, 1), torch.nn.Linear(2, 1)
    before = [parameter.clone() for parameter in target.parameters()]
    follow(target, source, 0.25)
    for old, new, aim in zip(before, target.parameters(), source.parameters(), strict=True):
        torch.testing.assert_close(new, 0.75 * old + 0.25 * aim)


def test_channels_last_frames_reach_the_encoder_without_a_copy_of_another_layout() -> None:
    obs = tensors("image", 4).obs
    seen = obs["image"].permute(0, 3, 1, 2).float()
    assert seen.is_contiguous(memory_format=torch.channels_last)


def test_policy_clips_its_log_std() -> None:
    policy = GaussianPolicy(make_spec("state"), "fast", (8,))
    with torch.no_grad():
        policy.head.bias.fill_(100.0)
    _, log_std = policy(tensors("state", 3).obs)
    assert log_std.max().item() == 2
    assert np.isfinite(torch.randn(1, generator=seeded(0)).item())
