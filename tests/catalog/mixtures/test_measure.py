"""Statistics of vectors that arrive in batches, against numbers worked by hand and numpy's own."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from catalog.mixtures.measure import SAMPLE_ROWS, Measure, Measures, entries, row_keys
from cogdata.errors import CogError
from cogdata.features import Feature, Per


def keys_of(count: int, number: int = 0) -> NDArray[np.uint64]:
    return row_keys(np.full(count, number, np.int32), np.arange(count, dtype=np.int32))


def test_numbers_by_hand() -> None:
    measure = Measure(2)
    measure.add(np.array([[1, 5], [2, 5]], np.float32), keys_of(2))
    measure.add(np.array([[3, 5], [6, 5]], np.float32), keys_of(2, number=1))
    assert measure.mean() == [3.0, 5.0]
    assert measure.deviation() == [3.5**0.5, 0.0]  # of 1 2 3 6: squares 4 1 0 9, a quarter of 14
    assert (measure.least(), measure.most()) == ([1.0, 5.0], [6.0, 5.0])
    found = measure.quantiles()
    assert found["q50"] == [2.5, 5.0]
    assert found["q90"] == pytest.approx([5.1, 5.0])  # a position of 2.7 of 3, between 3 and 6
    assert found["q01"] == pytest.approx([1.03, 5.0])


def test_an_entry_that_is_not_there_is_not_counted() -> None:
    measure = Measure(3)
    measure.add(np.array([[1, np.nan, np.nan]]), keys_of(1))
    measure.add(np.array([[3, 10, np.nan], [5, 20, np.nan]]), keys_of(2, number=1))
    assert measure.mean() == [3.0, 15.0, 0.0]
    assert measure.deviation() == pytest.approx([(8 / 3) ** 0.5, 5.0, 0.0])
    assert (measure.least(), measure.most()) == ([1.0, 10.0, 0.0], [5.0, 20.0, 0.0])
    assert measure.quantiles()["q50"] == [3.0, 15.0, 0.0]


def test_a_vector_without_entries_has_no_statistics() -> None:
    measure = Measure(0)
    measure.add(np.empty((4, 0), np.float32), keys_of(4))
    assert (measure.mean(), measure.deviation(), measure.least(), measure.most()) == ([], [], [], [])
    assert measure.quantiles() == {"q01": [], "q10": [], "q50": [], "q90": [], "q99": []}


def test_quantiles_of_many_are_of_an_even_sample_in_any_order() -> None:
    count = 5 * SAMPLE_ROWS
    values = np.linspace(0, 1, count)[:, None]
    keys = keys_of(count)
    order = np.random.default_rng(0).permutation(count)
    found = []
    for rows in (np.arange(count), order):
        measure = Measure(1)
        for part in np.array_split(rows, 11):
            measure.add(values[part], keys[part])
        found.append(measure.quantiles())
        assert (measure.least(), measure.most()) == ([0.0], [1.0])
    assert found[0] == found[1]
    shares = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
    for name, share in shares.items():
        assert found[0][name] == pytest.approx([share], abs=0.01)


def batch_of(**columns: list[list[float]]) -> dict[str, pa.Array]:
    return {name: pa.array(rows, pa.list_(pa.float32())) for name, rows in columns.items()}


def test_embodiments_are_measured_apart() -> None:
    action = Feature("action", "float32", (1,), per=Per.TRANSITION)
    measures = Measures([Feature("joints", "float32", (2,)), action], ("aloha", "so100", "unused"))
    batch = batch_of(joints=[[1, 2], [3, 4], [5, 6]], action=[[0], [1], [2]])
    measures.add(batch, keys_of(3), np.array([1, 0, 1], np.int32))
    measures.add(batch_of(joints=[[9, 9]], action=[[9]]), keys_of(1, 1), np.array([-1], np.int32))
    stats = measures.stats()
    assert (stats.transitions, stats.mean) == (4, {"joints": [4.5, 5.25], "action": [3.0]})
    assert {name: each.transitions for name, each in stats.embodiments.items()} == {
        "aloha": 1, "so100": 2, "unused": 0,
    }  # fmt: skip
    assert stats.embodiments["so100"].mean == {"joints": [3.0, 4.0], "action": [1.0]}
    assert stats.of("aloha").mean == {"joints": [3.0, 4.0], "action": [1.0]}
    assert stats.of(None) is stats
    assert stats.of("panda") is stats


@pytest.mark.parametrize("rows", [[[1.0, 2.0], None], [[1.0, 2.0], [3.0]]])
def test_a_list_of_another_length_is_refused(rows: list[Any]) -> None:
    with pytest.raises(CogError, match=r"^joints of some steps has not 2 numbers, as is declared: run `cog"):
        entries("joints", pa.array(rows, pa.list_(pa.float32())), 2)
