"""What a run is named by while options are added.

A run's name has a digest of its settings. Every field of version 0.1 is part of it; a field that was added
later is part of it only where it differs from what runs did before there was the field. So a new option
renames no run, and a run from before it goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_BEFORE: Final = "before"
_T = TypeVar("_T")


_SAME: Final[Any] = object()
"""Stands for the default."""


def later(default: _T, *, before: _T = _SAME) -> _T:
    """Declare a field of a configuration that version 0.1 did not have.

    ``weight: float = later(0.5)  # meaning`` is all that a new hyperparameter takes. Should its default ever
    change, ``later(0.7, before=0.5)`` keeps what runs did before there was the field.

    Args:
        default: Value unless a preset or the user gives another.
        before: What runs did before there was the field, which never changes; the default if left out.
    """
    declared: Any = field(default=default, metadata={_BEFORE: default if before is _SAME else before})
    return declared  # type: ignore[no-any-return]  # a dataclass turns it into its default


def identity_of(settings: DataclassInstance) -> dict[str, Any]:
    """Return the fields that a run is named by, with their values.

    Args:
        settings: A dataclass, some of whose fields may be :func:`later` ones.
    """
    unchanged = before_later(type(settings))
    values = {one.name: getattr(settings, one.name) for one in fields(settings)}
    return {
        name: value for name, value in values.items() if name not in unchanged or value != unchanged[name]
    }


def before_later(kind: type[DataclassInstance]) -> Mapping[str, Any]:
    """Return the :func:`later` fields of a dataclass with what runs did before them."""
    return {one.name: one.metadata[_BEFORE] for one in fields(kind) if _BEFORE in one.metadata}


def lists(data: Mapping[str, Any]) -> dict[str, Any]:
    """Turn tuples into JSON's lists."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in data.items()}


def tuples(data: Mapping[str, Any]) -> dict[str, Any]:
    """Turn JSON's lists back into tuples."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in data.items()}
