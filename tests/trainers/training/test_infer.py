from __future__ import annotations

from typing import Any

import pytest

from trainers.training.infer import followed


@pytest.mark.parametrize(
    ("observations", "t_end", "times"),
    [({}, 4, [1, 2, 3]), ({"observations": 5}, 4, [1, 2, 3]), ({"observations": 4}, 4, [1, 2]),
     ({"observations": 4}, 3, [1, 2]), ({"observations": None}, 3, [1, 2])],
)  # fmt: skip
def test_a_transition_to_an_unknown_observation_gets_no_label(
    observations: dict[str, Any], t_end: int, times: list[int]
) -> None:
    """Of 4 actions those from t = 1 on take part."""
    assert followed({"steps": 4, "t_start": 1, "t_end": t_end} | observations).tolist() == times
