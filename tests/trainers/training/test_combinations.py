"""Every combination of algorithm, observation, encoder, preset and option takes an update, or costs one line."""

from __future__ import annotations

import typing
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from cogdata.errors import CogError
from cogdata.storage.store import Store
from tests.trainers.toy import KINDS, ToyStream, make_manifest, make_spec, seeded, tensors
from trainers.algorithm import Config
from trainers.algos import ALGORITHMS, algorithm_class, build, configure
from trainers.networks.encoders import ENCODERS
from trainers.training.request import TrainRequest
from trainers.training.train import train

TINY = {
    "bc": ("widths=8",),
    "bfn": ("flow_widths=8", "critic_widths=8"),
    "cql": ("critic_widths=8", "policy_widths=8", "warm_start=0"),
    "iql": ("critic_widths=8", "policy_widths=8"),
    "sac": ("critic_widths=8", "policy_widths=8"),
}
NUMBERS = {"crop_px": "0 2", "decay": "0 0.5", "average_rate": "0.5 1", "acting_samples": "1 2", "critics": "1 3",
           "backup_actions": "1 2", "backup_samples": "1 2", "penalty_samples": "1 2", "components": "1 2"}  # fmt: skip
"""Numbers that decide which networks or which code there is."""


def options(config: Config) -> Iterator[str]:
    """Each value of each option that chooses, as ``key=value``."""
    for name, hint in typing.get_type_hints(type(config)).items():
        if hint is bool:
            values = ["true", "false"]
        elif typing.get_origin(hint) is typing.Literal:
            values = list(typing.get_args(hint))
        else:
            values = NUMBERS.get(name, "").split()
        yield from (f"{name}={value}" for value in values)


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize("obs", KINDS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_encoder_and_preset_trains(tmp_path: Path, algo: str, obs: str, encoder: str) -> None:
    for preset in algorithm_class(algo).presets:
        config = configure(algo, preset, (*TINY[algo], "batch_size=4", "updates=1", f"encoder={encoder}"))
        request = TrainRequest(algo, config, preset, obs, threads=1, tensorboard=False)
        _, state = train(Store(str(tmp_path)), make_manifest(), request, open_stream=ToyStream)
        assert (state.status, state.updates_done) == ("finished", 1)


@pytest.mark.parametrize("algo", ALGORITHMS)
@pytest.mark.parametrize(
    ("obs", "encoder"), [("state", "fast"), ("image", "hand_eye"), ("image+robot", "hand_eye")]
)
def test_every_option_takes_an_update_and_acts_or_is_refused_in_one_line(
    algo: str, obs: str, encoder: str
) -> None:
    refused = []
    for option in options(algorithm_class(algo).presets["fast"]):
        for preset in algorithm_class(algo).presets:
            try:
                config = configure(algo, preset, (*TINY[algo], f"encoder={encoder}", option))
            except CogError as error:
                refused.append((option, str(error).splitlines()))
                continue
            learner = build(algo, config, make_spec(obs), 0)
            metrics = learner.update(tensors(obs, 4), seeded(0))
            assert all(value.isfinite() for value in metrics.values()), option
            action = learner.act(tensors(obs, 2).obs, torch.zeros(2, *learner.noise_shape))
            assert action.isfinite().all(), option
    wanted = {"cql": ["data_in_logsumexp=true"] * 2}
    assert [option for option, _ in refused] == wanted.get(algo, [])
    assert all(len(lines) == 1 for _, lines in refused)
