"""What a policy looks at and does, by declaration: selection, units, networks of several cameras."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from cogdata.errors import CogError
from cogdata.features import Command, EpisodeSpec, Feature, Per
from cogdata.layout1 import ACTION, layout1_spec
from tests.trainers.toy import make_spec, seeded, version1
from trainers.algorithm import ActionSpec, ObsSpec, Spec, TensorObs
from trainers.networks.encoders import Inputs, named_encoders
from trainers.networks.heads import level_of
from trainers.networks.images import scaled
from trainers.networks.vectors import Vectors
from trainers.obs_kinds import check_obs, select

ARM = EpisodeSpec(
    (
        Feature("top", "uint8", (24, 32, 3)),
        Feature("forward", "uint16", (16, 16), low=(0.0,) * 256, high=(1000.0,) * 256),
        Feature("joints", "float64", (7,)),
        Feature("touch", "bool", (2, 2)),
        Feature("poses", "float32", (3,), privileged=True),
        Feature("said", "string"),
    ),
    Feature("action", "float32", (7,), per=Per.TRANSITION, low=(-3.0,) * 7, high=(1.0,) * 7),
)


def action_of(dtype: str, shape: tuple[int, ...], low: object, high: object) -> Feature:
    return Feature("action", dtype, shape, per=Per.TRANSITION, low=low, high=high)  # type: ignore[arg-type]


def names(obs: str, spec: EpisodeSpec = ARM) -> list[str]:
    return [one.name for one in select(obs, spec)]


def test_kinds_and_names_select_features_in_the_order_of_the_declaration() -> None:
    assert names("image") == ["top", "forward"]
    assert names("state") == ["joints", "touch", "poses"]
    assert names("image+robot") == ["top", "forward", "joints", "touch"]
    assert names("joints, top") == ["top", "joints"]
    built_in = layout1_spec((16, 16), ("x",), ())
    assert [names(kind, built_in) for kind in ("image", "state", "image+robot")] == [
        ["image"], ["robot", "scene"], ["image", "robot"],
    ]  # fmt: skip
    lerobot = EpisodeSpec((Feature("state", "float32", (2,)), Feature("effort", "float32", (2,))), ARM.action)
    assert (names("state", lerobot), names("state,", lerobot)) == (["state", "effort"], ["state"])


def test_what_cannot_be_selected_is_one_line() -> None:
    with pytest.raises(CogError, match="unknown observation 'wrist': known: .*joints.*top"):
        select("top,wrist", ARM)
    with pytest.raises(CogError, match="said is text, which no encoder here reads"):
        select("said", ARM)
    blind = EpisodeSpec((Feature("joints", "float32", (7,)),), ARM.action)
    with pytest.raises(CogError, match="--obs image finds no feature in these data: name some of joints"):
        select("image", blind)
    with pytest.raises(CogError, match="--obs names 'top' twice: say it once"):
        select("top,joints,top", ARM)
    hollow = EpisodeSpec((Feature("joints", "float32", (0,)), Feature("said", "string")), ARM.action)
    with pytest.raises(CogError, match="--obs joints has no entries: none are numbers, freeze a mixture of"):
        select("joints", hollow)
    for kind in ("state", "image"):
        with pytest.raises(CogError, match=f"--obs {kind} finds no feature in these data: none are numbers"):
            select(kind, hollow)
    with pytest.raises(CogError) as caught:
        select("wrist", EpisodeSpec((Feature("state", "float32", (2,)),), ARM.action))
    assert str(caught.value).endswith("known: image, image+robot, state")
    check_obs("camera_wrist,joints")
    with pytest.raises(CogError, match="unknown observation 'Camera!'"):
        check_obs("Camera!")


def test_bounds_become_units_and_back() -> None:
    spec = ActionSpec(action_of("float64", (2,), (-3.0, 0.0), (1.0, 10.0)))
    action = torch.tensor([[-3.0, 10.0], [-1.0, 2.5]], dtype=torch.float64)
    unit = spec.to_unit(action)
    assert unit.dtype == torch.float32
    assert unit.tolist() == [[-1.0, 1.0], [0.0, -0.5]]
    assert torch.equal(spec.from_unit(unit), action)
    assert (spec.dim, spec.discrete, spec.categories) == (2, False, ())
    single = ActionSpec(action_of("float32", (), (-2.0,), (2.0,)))
    assert single.to_unit(torch.tensor([1.0, 2.0])).tolist() == [[0.5], [1.0]]
    assert single.from_unit(torch.tensor([[0.5], [1.0]])).tolist() == [1.0, 2.0]


def test_an_action_that_is_in_units_is_not_copied() -> None:
    action = torch.rand(3, 8)
    spec = ActionSpec(ACTION)
    assert spec.to_unit(action) is action
    assert spec.from_unit(action) is action


def test_a_scaled_action_never_leaves_its_bounds() -> None:
    """The nearest float32 to .7 is below it, that to .1 above it: neither bound is passed."""
    feature = action_of("float32", (2,), (0.7, -0.3), (0.9, 0.1))
    spec = ActionSpec(feature)
    for unit in (-1.0, 1.0):
        feature.check(spec.from_unit(torch.full((1, 2), unit)).numpy(), 1)


def test_an_entry_without_bounds_is_scaled_by_the_data() -> None:
    feature = action_of("float32", (2,), (-np.inf, 0.0), (np.inf, 4.0))
    with pytest.raises(CogError, match="the mixture has statistics of 0 of its 2 entries: freeze it again"):
        ActionSpec.of(feature, (), ())
    spec = ActionSpec.of(feature, (1.0, 2.0), (2.0, 1.0))
    unit = spec.to_unit(torch.tensor([[1.0, 4.0], [7.0, 0.0], [100.0, 2.0]]))
    assert unit.tolist() == [[0.0, 1.0], [1.0, -1.0], [1.0, 0.0]]  # mean ± 3 standard deviations
    assert spec.from_unit(unit[:2]).tolist() == [[1.0, 4.0], [7.0, 0.0]]
    assert ActionSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert ActionSpec.of(ACTION, (1.0,) * 8, (1.0,) * 8) == ActionSpec(ACTION)


def test_more_choices_than_a_network_can_weigh_are_one_line() -> None:
    assert ActionSpec(action_of("int64", (2,), (0.0, 1.0), (65534.0, 1.0))).dim == 65536
    with pytest.raises(CogError, match="65,537 choices, of which a network weighs at most 65,536: choose"):
        ActionSpec(action_of("int64", (2,), (0.0, 1.0), (65535.0, 1.0)))


def test_choices_are_counted_from_zero() -> None:
    one = ActionSpec(action_of("int64", (), (2.0,), (5.0,)))
    assert (one.dim, one.discrete, one.categories) == (4, True, (4,))
    assert one.to_unit(torch.tensor([2, 5])).tolist() == [0, 3]
    assert one.from_unit(torch.tensor([0, 3])).tolist() == [2, 5]
    many = ActionSpec(action_of("int64", (2,), (0.0, -1.0), (2.0, 1.0)))
    assert (many.dim, many.categories) == (6, (3, 3))
    assert many.to_unit(torch.tensor([[2, -1]])).tolist() == [[2, 0]]


def test_a_command_means_the_level_of_its_sign() -> None:
    value = torch.tensor([-1.0, -0.5, 0.5, 0.6, 1.0])
    assert level_of(value, Command(0, (-1.0, 0.0, 1.0))).tolist() == [0, 1, 1, 2, 2]
    assert level_of(value, Command(0, (0.0, 1.0))).tolist() == [0, 0, 0, 1, 1]
    assert level_of(value, Command(0, (0.0, 1.0), beyond=0.2)).tolist() == [0, 0, 1, 1, 1]
    assert level_of(value, Command(0, (-1.0, 1.0))).tolist() == [0, 0, 1, 1, 1]


def test_the_specification_of_version_0_1_is_read() -> None:
    spec = version1("state", (16, 16), ("x", "y"), tuple(range(12)), (1.0,) * 12)
    assert spec.features == layout1_spec((16, 16), ("x", "y"), ()).observations[1:]
    assert spec.mean == {"robot": tuple(range(10)), "scene": (10, 11)}
    assert Spec.from_dicts(spec.to_dict(), {}).action == ActionSpec(ACTION)


def arm_spec(obs: str) -> ObsSpec:
    features = select(obs, ARM)
    vectors = [one for one in features if not one.is_image]
    return ObsSpec(
        features,
        {one.name: (0.0,) * one.size for one in vectors},
        {one.name: (1.0,) * one.size for one in vectors},
    )


def arm_obs(count: int) -> TensorObs:
    generator = seeded(0)
    return TensorObs(
        {
            "top": torch.randint(256, (count, 24, 32, 3), generator=generator, dtype=torch.uint8),
            "forward": torch.randint(1000, (count, 16, 16), generator=generator).to(torch.uint16),
            "joints": torch.rand((count, 7), generator=generator, dtype=torch.float64),
            "touch": torch.rand((count, 2, 2), generator=generator) > 0.5,
            "poses": torch.rand((count, 3), generator=generator),
        }
    )


@pytest.mark.parametrize("encoder", ["fast", "paper", "hand_eye"])
def test_cameras_of_several_sizes_and_depths_are_each_encoded(encoder: str) -> None:
    inputs = Inputs(arm_spec("image+robot"), encoder)
    obs = arm_obs(3)
    features = inputs(obs)
    sizes = [inputs.encoders[name].dim for name in ("top", "forward")]
    assert features.shape == (3, sum(sizes) + 7 + 4)
    assert inputs.dim == features.shape[1]
    for name, part in (("top", slice(0, sizes[0])), ("forward", slice(sizes[0], sum(sizes)))):
        other = inputs(obs.having(name, torch.zeros_like(obs[name])))
        moved = (other - features).abs().amax(0) > 0
        assert moved[part].any()
        moved[part] = False
        assert not moved.any()
    assert torch.equal(features[:, sum(sizes) :][:, :7], obs["joints"].float())
    assert torch.equal(features[:, -4:], obs["touch"].flatten(1).float())


def test_depth_is_scaled_by_its_bounds() -> None:
    depth = torch.tensor([[[0, 500], [1000, 1500]]], dtype=torch.int32).to(torch.uint16)
    bounded = Feature("depth", "uint16", (2, 2), low=(0.0,) * 4, high=(1000.0,) * 4)
    assert scaled(depth, bounded).tolist() == [[[[0.0, 0.5], [1.0, 1.0]]]]
    free = Feature("depth", "uint16", (2, 2))
    assert scaled(depth, free)[0, 0, 1, 0] == pytest.approx(1000 / 65535)


def test_wide_numbers_are_normalised_before_they_are_cast() -> None:
    """The times of two steps, 2⁻⁴ s apart, are the same number in float32."""
    clock = Feature("clock_s", "float64", ())
    spec = ObsSpec((clock,), {"clock_s": (1.7e9,)}, {"clock_s": (0.25,)})
    seen = Vectors(spec)(TensorObs({"clock_s": torch.tensor([1.7e9, 1.7e9 + 0.0625], dtype=torch.float64)}))
    assert seen.tolist() == [[0.0], [0.25]]


def test_without_a_hand_there_are_no_ways() -> None:
    thing = Feature("thing", "float32", (3,), names=("cup_x_m", "cup_y_m", "cup_z_m"))
    hand = Feature("arm", "float32", (3,), names=("ee_x_m", "ee_y_m", "ee_z_m"))
    zeros, ones = (0.0,) * 3, (1.0,) * 3
    alone = Vectors(ObsSpec((thing,), {"thing": zeros}, {"thing": ones}))
    assert alone.dim == 3
    both = Vectors(ObsSpec((thing, hand), {"thing": zeros, "arm": zeros}, {"thing": ones, "arm": ones}))
    seen = both(
        TensorObs({"thing": torch.tensor([[0.1, 0.0, 0.0]]), "arm": torch.tensor([[0.05, 0.0, 0.0]])})
    )
    assert both.dim == 6 + 6
    torch.testing.assert_close(seen[0, 6:9], torch.tensor([1.0, 0.0, 0.0]))  # in units of 5 cm


def test_the_weights_of_version_0_1_are_named_anew() -> None:
    inputs = Inputs(make_spec("image+robot").obs, "fast")
    old = {name.replace("encoders.image", "encoder"): value for name, value in inputs.state_dict().items()}
    assert "encoder.maps.weight" in old
    other = Inputs(make_spec("image+robot").obs, "fast")
    other.load_state_dict(old)
    assert all(torch.equal(value, inputs.state_dict()[name]) for name, value in other.state_dict().items())
    kept = {
        "critics.inputs.0.encoder.maps.bias": torch.ones(1),
        "p.inputs.encoders.encoder.maps.bias": torch.ones(1),
    }
    assert list(named_encoders(kept)) == [
        "critics.inputs.0.encoders.image.maps.bias", "p.inputs.encoders.encoder.maps.bias",
    ]  # fmt: skip


def test_a_specification_refuses_what_no_network_reads() -> None:
    with pytest.raises(CogError, match="a policy must look at one feature at least"):
        ObsSpec((), {}, {})
    with pytest.raises(
        CogError, match=r"tiny is \(4, 9\) px, a convolutional encoder needs at least 8×8: leave it out of"
    ):
        ObsSpec((Feature("tiny", "uint8", (4, 9, 3)),), {}, {})
    with pytest.raises(ValueError, match="mean and std of joints have 2 and 7 numbers, must be 7"):
        ObsSpec((ARM["joints"],), {"joints": (0.0,) * 2}, {"joints": (1.0,) * 7})


def test_a_specification_survives_json() -> None:
    spec = Spec(arm_spec("image+robot"), ActionSpec(ARM.action))
    text = json.dumps([spec.obs.to_dict(), spec.action.to_dict()])
    assert Spec.from_dicts(*json.loads(text)) == spec
