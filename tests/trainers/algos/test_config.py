from __future__ import annotations

import json

import pytest

from cogdata.errors import CogError
from tests.trainers.toy import version1
from trainers.algorithm import ObsSpec
from trainers.algos import configure
from trainers.algos.bfn import BfnConfig
from trainers.algos.cql import Cql, CqlConfig


def test_each_type_is_parsed_by_its_field() -> None:
    config = configure(
        "bfn", "fast", ["discount=0.97", "updates=1_500", "flow_widths=64, 32", "success=continuing"]
    )
    assert isinstance(config, BfnConfig)
    assert (config.discount, config.updates, config.flow_widths, config.success) == (
        0.97,
        1500,
        (64, 32),
        "continuing",
    )
    assert configure("bc", "fast", ["stochastic=False"]).to_dict()["stochastic"] is False


def test_the_last_of_two_settings_holds_and_others_keep_their_preset() -> None:
    config = configure("cql", "paper", ["discount=0.9", "discount=0.8"])
    assert isinstance(config, CqlConfig)
    assert config.discount == 0.8
    preset = Cql.presets["paper"]
    assert config.to_dict() == {**preset.to_dict(), "discount": 0.8}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("discont=0.9", r"unknown key 'discont': did you mean 'discount'\?"),
        ("discount", r"setting 'discount' must be key=value; keys: acting_samples, "),
        ("discount=much", "discount must be a number, found 'much'"),
        ("discount=nan", "discount must be a number, found 'nan'"),
        ("discount=1", r"discount is 1.0, must be within \[0, "),
        ("batch_size=2.5", "batch_size must be a whole number, found '2.5'"),
        ("batch_size=0", r"batch_size is 0, must be within \[1, 65536\]"),
        ("success=never", "unknown value of success 'never'.*known: absorbing, continuing"),
        ("flow_widths=64,x", "flow_widths must be a whole number, found 'x'"),
        ("flow_widths=64,0", r"flow_widths is \(64, 0\), must be one or more widths"),
        ("critic_widths=10000000,8", r"critic_widths is \(10000000, 8\), .* widths from 1 to 65,536"),
        ("discount=inf", "discount is inf, must be a finite number"),
    ],
)
def test_a_bad_setting_is_one_clear_line(setting: str, said: str) -> None:
    with pytest.raises(CogError, match=said) as caught:
        configure("bfn", "fast", [setting])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("setting", ["temperature=inf", "target_entropy=-inf", "penalty_weight=1e999"])
def test_a_number_that_is_not_finite_is_refused(setting: str) -> None:
    with pytest.raises(CogError, match=rf"^{setting.partition('=')[0]} is -?inf, must be a finite number$"):
        configure("cql", "fast", [setting])
    assert configure("cql", "fast", ["critic_widths=65536"]).to_dict()["critic_widths"] == [65_536]


def test_a_bad_truth_value_is_refused() -> None:
    with pytest.raises(CogError, match="stochastic must be true or false, found '1'"):
        configure("bc", "fast", ["stochastic=1"])


def test_a_specification_checks_itself() -> None:
    with pytest.raises(CogError, match="unknown observation 'pixels'"):
        version1("pixels", (48, 48), (), (), ())
    with pytest.raises(ValueError, match="mean and std have 3 and 3 numbers, must be 10"):
        version1("image+robot", (48, 48), (), (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(CogError, match="at least 8×8"):
        version1("image", (4, 4), (), (), ())
    spec = version1("state", (48, 48), ("x",), (0.5,) * 11, (1.0,) * 11)
    assert spec.names == ("robot", "scene")
    assert (spec.mean["robot"], spec.std["scene"]) == ((0.5,) * 10, (1.0,))
    assert ObsSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
