"""Means, intervals, paired tests and targets, worked out by hand."""

from __future__ import annotations

import pytest

from tests.trainers.paper.reported import GRIPPER, TABLE, result_of
from trainers.paper.statistics import (
    SuccessTarget,
    ablations,
    cells_of,
    compare,
    rate_text,
    result_tables,
    updates_to_learn,
    verdicts,
)


def test_a_cell_is_the_mean_over_seeds() -> None:
    """.25, .5 and .75: mean .5, sample deviation .25; 6 of 12 have the Wilson interval .254 to .746."""
    found = [result_of("bfn", seed, outcomes) for seed, outcomes in enumerate(("1000", "1100", "0111"))]
    cell = cells_of(found)[TABLE, "bfn"]
    assert (cell.mean, cell.std, cell.successes, cell.episodes) == (0.5, pytest.approx(0.25), 6, 12)
    assert cell.interval == pytest.approx((0.2538, 0.7462), abs=1e-4)
    assert str(cell) == ".50 (.25)"
    assert str(cells_of(found[:1])[TABLE, "bfn"]) == ".25"


@pytest.mark.parametrize(("value", "text"), [(0.0, ".00"), (0.974, ".97"), (0.996, "1.00"), (1.0, "1.00")])
def test_rates_are_written_as_in_the_paper(value: float, text: str) -> None:
    assert rate_text(value) == text


def test_methods_are_paired_by_seed_and_scene() -> None:
    """Seed 0: a alone in scenes 0 and 1, b alone in 3; seed 1 is in a alone. p of 2 : 1 is 1."""
    this = cells_of([result_of("bfn", 0, "1110"), result_of("bfn", 1, "1111")])[TABLE, "bfn"]
    that = cells_of([result_of("cog", 0, "0011")])[TABLE, "cog"]
    against = compare(this, that)
    assert against is not None
    assert (against.pairs, against.only_this, against.only_other, against.p) == (4, 2, 1, 1.0)
    assert compare(this, cells_of([result_of("cog", 5, "0011")])[TABLE, "cog"]) is None
    (table,) = result_tables([result_of("bfn", 0, "1110"), result_of("cog", 0, "0011")])
    assert table.against(TABLE, "bfn") == against
    assert table.against(TABLE, "cog") is None


def test_ablations_are_in_no_table_and_kinds_have_their_own() -> None:
    found = [
        result_of("bfn", 0, "1111"),
        result_of("bfn", 0, "0000", change="prior-10"),
        result_of("bfn", 0, "0000", obs="image"),
    ]
    tables = result_tables(found)
    assert [(table.obs, table.cells[TABLE, "bfn"].mean) for table in tables] == [
        ("state", 1.0),
        ("image", 0.0),
    ]


def test_an_ablation_is_compared_with_what_it_changes() -> None:
    """Seed 0: the whole prior alone in scene 0, a tenth alone in scene 3; another kind of observation is not paired."""
    found = [
        result_of("bfn", 0, "1110"),
        result_of("bfn", 0, "0111", change="prior-10"),
        result_of("bfn", 1, "0011", change="prior-10"),
        result_of("bfn", 0, "0000", change="prior-10", obs="image"),
        result_of("bfn", 0, "1111", change="online", online=4),
    ]
    seen, told = (one for one in ablations(found) if one.env == TABLE)
    assert (told.ablation, told.method, str(told.cell)) == ("prior-10", "bfn", ".62 (.18)")
    assert told.unchanged is not None
    assert told.unchanged.mean == 0.75
    assert told.against is not None
    assert (told.against.pairs, told.against.only_this, told.against.only_other) == (4, 1, 1)
    assert (seen.unchanged, seen.against) == (None, None)


def test_an_ablation_of_an_ablation_is_compared_with_that_one() -> None:
    """Kept rewards differ from zeros in one thing; from the table's experiment, here 1.00, in two."""
    found = [
        result_of("bfn", 0, "1111"),
        result_of("bfn", 0, "0011", change="solved-zeros"),
        result_of("bfn", 0, "0001", change="solved-kept"),
    ]
    zeros, kept = (one for one in ablations(found) if one.env == TABLE)
    assert (str(zeros.unchanged), str(kept.unchanged)) == ("1.00", ".50")
    assert kept.against is not None
    assert (kept.against.only_this, kept.against.only_other) == (0, 1)


def test_targets_are_held_against_the_better_method() -> None:
    """On the table .975 of bfn and .5 of cog, .97 wanted; BC-all may have at most .15.

    In the gripper bfn's three seeds go before the one of cog, whose mean is higher.
    """
    good = "1" * 39 + "0"
    found = verdicts(
        result_tables(
            [
                *(result_of("bfn", seed, good, good) for seed in range(3)),
                result_of("cog", 0, "10" * 20, "1" * 40),
                result_of("bc_all", 0, "1" * 7 + "0" * 33),
            ]
        )
    )
    met = {
        (one.target.methods[0], one.target.envs[0]): (one.method, one.found, one.seeds, one.met)
        for one in found
        if one.target.task == "place_in_tray" and not one.target.images
    }
    assert met["cog", TABLE] == ("bfn", pytest.approx(0.975), 3, True)
    beside = next(one.others for one in found if one.target.envs == (TABLE,) and one.method == "bfn")
    assert beside == {"cog": 0.5}
    assert met["cog", GRIPPER] == ("bfn", pytest.approx(0.975), 3, False)
    assert met["bc_all", TABLE] == ("bc_all", pytest.approx(0.175), 1, False)
    assert met["no_prior", TABLE] == (None, None, 0, None)


def test_a_target_over_several_conditions_needs_all_of_them() -> None:
    hard = next(
        one for one in verdicts(result_tables([result_of("bfn", 0, "1111")])) if len(one.target.envs) == 3
    )
    assert isinstance(hard.target, SuccessTarget)
    assert (hard.found, hard.met) == (None, None)


def test_when_a_curve_has_most_of_its_end() -> None:
    """0, .75, 1, .75, .75: 90 % of .75 is .675, first reached by the second checkpoint, after 20 updates."""
    assert updates_to_learn(result_of("bfn", 0, "1", curve=("0000", "0111", "1111", "0111", "0111"))) == 20
    assert updates_to_learn(result_of("bfn", 0, "1", curve=("1111", "0001"))) is None
    assert updates_to_learn(result_of("bfn", 0, "1")) is None
