from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cogdata.errors import CogError
from cogdata.streaming.plan import Stratum, counts_per_batch, epoch_permutation, weighted_draw, windows


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=5),
    st.integers(64, 512),
)
def test_a_batch_is_split_exactly_and_within_one_of_each_share(parts: list[int], batch: int) -> None:
    shares = {f"s{i}": part / sum(parts) for i, part in enumerate(parts)}
    if min(shares.values()) * batch < 1:
        return
    counts = counts_per_batch(shares, batch)
    assert sum(counts.values()) == batch
    assert all(abs(counts[name] - share * batch) < 1 for name, share in shares.items())


def test_halves_are_halves_and_a_share_without_a_transition_is_an_error() -> None:
    assert counts_per_batch({"prior": 0.5, "task": 0.5}, 256) == {"prior": 128, "task": 128}
    with pytest.raises(CogError, match="source 'b' has a share of 0.001, less than one transition"):
        counts_per_batch({"a": 0.999, "b": 0.001}, 100)


@given(st.integers(1, 40), st.integers(0, 5), st.integers(0, 3))
def test_every_epoch_is_a_permutation(size: int, epoch: int, seed: int) -> None:
    whole = epoch_permutation(seed, "x", "s", size, epoch * size, (epoch + 1) * size)
    assert sorted(whole) == list(range(size))


@given(st.integers(1, 30), st.integers(0, 100), st.integers(0, 60), st.integers(0, 60))
def test_an_order_read_in_pieces_is_the_same_order(size: int, start: int, first: int, second: int) -> None:
    whole = epoch_permutation(0, "x", "s", size, start, start + first + second)
    pieces = [
        epoch_permutation(0, "x", "s", size, start, start + first),
        epoch_permutation(0, "x", "s", size, start + first, start + first + second),
    ]
    np.testing.assert_array_equal(whole, np.concatenate(pieces))


def test_epochs_seeds_and_strata_have_different_orders() -> None:
    draws = [epoch_permutation(s, "x", name, 50, c * 50, c * 50 + 50) for s, name, c in
             [(0, "a", 0), (0, "a", 1), (1, "a", 0), (0, "b", 0)]]  # fmt: skip
    assert len({draw.tobytes() for draw in draws}) == 4


def test_weights_are_proportions() -> None:
    cumulative = np.cumsum([1.0, 3.0, 0.0, 4.0])
    drawn = np.concatenate([weighted_draw(0, "s", p, 8, cumulative) for p in range(100)])
    # 800 draws, one from each eighth of the total: exactly 1/8, 3/8, 0, 4/8 of them.
    assert np.bincount(drawn, minlength=4).tolist() == [100, 300, 0, 400]


def _stratum(name: str, episodes: int, length: int, count: int) -> Stratum:
    return Stratum(name, np.arange(episodes), np.full(episodes, length), count)


def test_what_fits_does_not_move() -> None:
    chosen, block = windows([_stratum("a", 10, 30, 8)], [10])
    assert (chosen[0].capacity, chosen[0].refill, block) == (10, 0, 0)


def test_a_moving_window_draws_each_transition_about_once_a_pass() -> None:
    stratum = _stratum("a", 1000, 30, 128)
    chosen, block = windows([stratum], [160])
    # an eighth of 160 episodes is 20, of 30 transitions each: 600 draws, 4 batches of 128.
    assert (block, chosen[0].refill) == (4, 17)
    draws_per_pass = 1000 / chosen[0].refill * block * 128
    assert draws_per_pass == pytest.approx(stratum.size, rel=0.05)
