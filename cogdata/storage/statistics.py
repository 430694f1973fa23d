"""Statistics of a mixture's numbers, feature by feature: what inputs are normalised with."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from cogdata.storage.versions import known

QUANTILES: Final[Mapping[str, float]] = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
"""Name of a quantile → share of the numbers that lie below it."""

Numbers = dict[str, list[float]]
"""Feature, or "action" → one number per entry; a feature of several dimensions is flattened."""


@dataclass(frozen=True)
class Stats:
    """Statistics over transitions: of the observation that an action leaves, and of the action.

    They are of every feature of numbers that is a column of ``steps``, not of images. Entries that a mixture
    pads are counted only where an episode has them; an entry that none has is 0 throughout.

    Attributes:
        mean: Of each entry.
        std: Population standard deviation of each entry.
        min: Smallest number of each entry; empty: a version that was frozen before it was kept.
        max: Largest number of each entry; likewise.
        quantiles: Name among :data:`QUANTILES` → that quantile of each entry; likewise. Of more than 32,768
            transitions it is that of as many of them, drawn evenly and always the same ones.
        transitions: How many they are of; 0: a version that was frozen before they were counted.
        embodiments: Value of the manifest's column ``embodiment`` → statistics of its transitions alone.
    """

    mean: Numbers
    std: Numbers
    min: Numbers = field(default_factory=dict)
    max: Numbers = field(default_factory=dict)
    quantiles: dict[str, Numbers] = field(default_factory=dict)
    transitions: int = 0
    embodiments: dict[str, Stats] = field(default_factory=dict)

    def of(self, embodiment: str | None) -> Stats:
        """Return the statistics of one embodiment; those of all transitions if it has none of its own."""
        return self if embodiment is None else self.embodiments.get(embodiment, self)

    def to_json(self) -> str:
        """Return indented JSON."""
        return json.dumps(asdict(self), indent=2)

    @classmethod
    def from_data(cls, data: Mapping[str, Any]) -> Stats:
        """Read what :meth:`to_json` returned, of this version or an older one.

        Raises:
            TypeError: They are no statistics.
        """
        values = known(cls, data)
        apart = {name: cls.from_data(each) for name, each in dict(values.pop("embodiments", {})).items()}
        stats = cls(**values, embodiments=apart)
        stats._check()
        return stats

    def _check(self) -> None:
        tables = [self.mean, self.std]
        tables += [table for table in (self.min, self.max, *dict(self.quantiles).values()) if table]
        sizes = {name: len(numbers) for name, numbers in self.mean.items()}
        for table in tables:
            if {name: len(numbers) for name, numbers in table.items()} != sizes:
                raise TypeError("statistics of different features")
            if not all(isinstance(one, int | float) for numbers in table.values() for one in numbers):
                raise TypeError("a statistic is no number")
        if "action" not in sizes:
            raise TypeError("no statistics of the action")
