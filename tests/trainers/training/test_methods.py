"""Methods: which stages, which settings, and one line for settings that fit none."""

from __future__ import annotations

from itertools import pairwise

import pytest

from cogdata.errors import CogError
from tests.trainers.toy import make_spec
from trainers.algos import ALGORITHMS, build
from trainers.training.methods import METHODS, configure_stages


def settings(method: str, *overrides: str) -> dict[str, dict[str, object]]:
    found = configure_stages(method, "fast", overrides)
    return {stage.algo: config.to_dict() for stage, config in found}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("preset", ["fast", "paper"])
def test_every_stage_starts_where_the_one_before_it_ended(name: str, preset: str) -> None:
    stages = configure_stages(name, preset)
    assert {stage.algo for stage, _ in stages} <= ALGORITHMS.keys()
    learners = [build(stage.algo, config, make_spec("state"), 0) for stage, config in stages]
    for before, after in pairwise(learners):
        assert after.start_from(before) == ("policy",)


def test_a_setting_is_for_every_stage_that_has_it_or_for_the_one_it_names() -> None:
    found = settings("bc_init", "batch_size=32", "bc.batch_size=16", "discount=0.9", "updates=7")
    assert (found["bc"]["batch_size"], found["cql"]["batch_size"]) == (16, 32)
    assert (found["bc"]["updates"], found["cql"]["updates"]) == (7, 7)
    assert found["cql"]["discount"] == 0.9
    found = settings("bc_init", "bc.updates=5", "updates=7")
    assert (found["bc"]["updates"], found["cql"]["updates"]) == (5, 7)


def test_the_first_stage_has_the_policy_of_the_second() -> None:
    found = settings("bc_init", "policy_widths=32,16", "encoder=paper")
    assert found["bc"]["widths"] == found["cql"]["policy_widths"] == [32, 16]
    assert found["bc"]["encoder"] == found["cql"]["encoder"] == "paper"


@pytest.mark.parametrize(
    ("method", "override", "said"),
    [
        ("bc_inti", "updates=1", "unknown method 'bc_inti': did you mean 'bc_init'?"),
        ("bc_init", "sac.updates=1", "unknown stage of method 'bc_init' 'sac': known: bc, cql"),
        ("bc_init", "bc.discount=0.9", "unknown key 'discount'"),
        ("bc_init", "dicsount=0.9", "unknown key 'dicsount': did you mean 'discount'?"),
        ("bc_init", "discount", "setting 'discount' must be key=value"),
        ("bc_init", "bc.discount", "setting 'discount' must be key=value"),
        ("bc_init", "bc.updates=0", "updates is 0, must be within [1, 1e+09]"),
        ("bc_init", "bc.widths=8", "cql cannot start from this bc: policy.head.weight differs in size"),
        ("bc_init", "bc.encoder=paper", "cql cannot start from this bc: policy.inputs"),
        ("bc_init", "bc.widths=256,256,256", "cql cannot start from this bc: policy.trunk.4.bias is in one of them "
         "only; give both the same widths and components with --set"),
        ("bc_init", "bc.head=mixture", "cql cannot start from this bc: policy."),
    ],
)  # fmt: skip
def test_what_fits_no_stage_is_one_line(method: str, override: str, said: str) -> None:
    with pytest.raises(CogError) as caught:
        configure_stages(method, "fast", [override])
    assert str(caught.value).startswith(said)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["bc.head=mixture"], "give bc head=gaussian with --set"),
        (["bc.head=mixture", "bc.hybrid=true"], "give bc head=gaussian, bc hybrid=false with --set"),
        (["bc.encoder=paper"], "give bc encoder=fast with --set"),
        (["bc.encoder=paper", "cql.shared_encoder=true"], "give bc encoder=fast with --set"),
    ],
)
def test_layers_that_one_of_two_stages_lacks_are_named_by_their_settings(
    overrides: list[str], said: str
) -> None:
    with pytest.raises(CogError) as caught:
        configure_stages("bc_init", "fast", overrides)
    assert str(caught.value).endswith(said)
