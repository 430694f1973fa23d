from __future__ import annotations

import pytest

from cogdata.errors import CogError
from cogdata.units import parse_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("500MB", 500_000_000), ("2G", 2_000_000_000), ("1.5 GiB", 1_610_612_736), ("17", 17), ("3kib", 3072)],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "many", "-3MB", "0", "5 XB"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(CogError, match="for example 500MB"):
        parse_bytes(text)
