"""Versions of the store's files, read in one place.

A file says its version in ``schema_version``; one that says none is of version 1. What a newer version wrote
is refused in one line, not called damaged. A key that this version does not know is left out when a file is
read, and stays when it is written again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, Final

import pyarrow as pa

from cogdata.errors import CogError, UnreachableError
from cogdata.schema import SCHEMA_VERSION
from cogdata.storage.store import Store

KEY: Final = "schema_version"
NEWER: Final = "was written by a newer cogdata"


class NewerError(CogError):
    """A file of a newer version: nothing is damaged, and nothing of it can be read."""


def read_json(store: Store, path: str) -> dict[str, Any]:
    """Read a JSON object of a version that this program knows.

    Args:
        store: Where from.
        path: Within the store.

    Raises:
        NewerError: A newer version wrote it.
        CogError: It is missing.
        ValueError: It is no JSON.
        TypeError: It is no object, or its version is no number from 0.
    """
    return parse(store.read_text(path), store.path(path))


def parse(text: str, where: str) -> dict[str, Any]:
    """Turn JSON into an object of a version that this program knows; see :func:`read_json`.

    Args:
        text: What the file says.
        where: Its path, for errors.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        raise
    except (RecursionError, ValueError) as error:  # nested too deeply, a number of thousands of digits
        raise json.JSONDecodeError(f"{where}: {error}", "", 0) from None
    if not isinstance(data, dict):
        raise TypeError(f"{where} is no JSON object")
    _check(data.get(KEY, 1), where)
    return data


def refusal(error: Exception, damaged: str) -> CogError:
    """Return the error to raise for a file that could not be read.

    Args:
        error: What its reader raised.
        damaged: What to say if it is neither of a newer version nor out of reach for the moment.
    """
    return error if isinstance(error, NewerError | UnreachableError) else CogError(damaged)


def check_table(table: pa.Table, where: str) -> None:
    """Refuse a Parquet table whose metadata name a newer version.

    Args:
        table: As read.
        where: Its path.

    Raises:
        NewerError: It is.
        ValueError: The version is no number.
    """
    said = (table.schema.metadata or {}).get(KEY.encode())
    if said is not None:
        _check(int(said), where)


def known(kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the entries that a dataclass has fields for.

    Args:
        kind: The dataclass.
        data: Of a file.
    """
    names = {field.name for field in fields(kind)}
    return {name: value for name, value in data.items() if name in names}


def with_unknown(store: Store, path: str, kind: type[Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """Add to what is to be written the keys of the file there that this version does not know.

    Args:
        store: Where the file is, if there is one.
        path: Within the store.
        kind: Dataclass of what this version knows.
        data: What is to be written.

    Raises:
        NewerError: A newer version wrote the file that is there.
    """
    try:
        there = read_json(store, path)
    except (NewerError, UnreachableError):
        raise
    except (ValueError, TypeError, OSError):  # none there, or a damaged one, which is written anew
        return dict(data)
    return {**data, **{name: value for name, value in there.items() if name not in known(kind, there)}}


def _check(version: object, where: str) -> None:
    if not isinstance(version, int) or isinstance(version, bool) or version < 0:
        raise TypeError(f"{where} has {KEY} {version!r}, must be a whole number from 0")
    if version > SCHEMA_VERSION:
        said = f"(schema {version}, this one reads {SCHEMA_VERSION})"
        raise NewerError(f"{where} {NEWER} {said}: upgrade cogdata")


def origin(env: str, cogdata: str, code: str, libraries: Mapping[str, str]) -> dict[str, Any]:
    """Put together what made the episodes of a part: a driver may be edited between two parts.

    Args:
        env: Gymnasium id, or ``module:Class``.
        cogdata: Version that collected.
        code: Git revision of the code, or "".
        libraries: Versions of the libraries that decide bytes; of a driver's module the digest.
    """
    module, colon, _ = env.partition(":")
    driver = libraries.get(module) if colon else None
    return {"cogdata": cogdata, "code": code, "driver": driver, "libraries": dict(libraries)}
