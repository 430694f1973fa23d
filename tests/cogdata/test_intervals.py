from __future__ import annotations

import pytest

from cogdata.intervals import mcnemar, wilson


def test_a_half_of_ten_by_hand() -> None:
    # z = 2: (5/10 + 4/20 ± 2 sqrt(.25/10 + 4/400)) / (1 + 4/10) = (.7 ± 2·sqrt(.035)) / 1.4
    low, high = wilson(5, 10, z=2)
    assert low == pytest.approx((0.7 - 2 * 0.035**0.5) / 1.4)
    assert high == pytest.approx((0.7 + 2 * 0.035**0.5) / 1.4)


def test_none_of_ten_reaches_up_to_z2_over_n_plus_z2() -> None:
    # at rate 0 the upper end is z²/(n + z²), the lower one 0
    assert wilson(0, 10, z=2) == pytest.approx((0.0, 4 / 14))


def test_all_mirrors_none() -> None:
    low, high = wilson(10, 10)
    assert (1 - high, 1 - low) == (
        pytest.approx(wilson(0, 10)[0], abs=1e-12),
        pytest.approx(wilson(0, 10)[1]),
    )


def test_published_value() -> None:
    # 8 of 10 at 95 %: (0.490, 0.943), the textbook example
    assert wilson(8, 10) == pytest.approx((0.490, 0.943), abs=5e-4)


@pytest.mark.parametrize(("successes", "n"), [(1, 0), (-1, 3), (4, 3)])
def test_what_is_no_rate_is_refused(successes: int, n: int) -> None:
    with pytest.raises(ValueError, match="is no rate"):
        wilson(successes, n)


def test_mcnemar_by_hand_and_of_thousands_of_pairs() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(1, 4) == pytest.approx(2 * (1 + 5) / 32)
    assert mcnemar(600, 500) == pytest.approx(0.0029, abs=2e-4)
    assert 0 < mcnemar(4_000, 6_000) < 1e-80
