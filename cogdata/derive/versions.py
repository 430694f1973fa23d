"""Which version of a layer a command derives: one that is there by the same function, or a new one."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

import cogdata
from cogdata.derive.functions import Derivation
from cogdata.errors import CogError
from cogdata.storage.layers.heads import LayerInfo, check_name, is_version, list_versions, read_layer
from cogdata.storage.store import Store

NEW: Final = "new"
"""What asks for a version that is not there yet."""


def choose_version(
    store: Store, name: str, derivation: Derivation, asked: str | None, command: str
) -> LayerInfo:
    """Return the head of the version to derive; a new one is not written yet.

    Args:
        store: Where the layer lies.
        name: Its name.
        derivation: The function.
        asked: :data:`NEW`, a number, or None: the newest, or the first.
        command: What was typed.

    Raises:
        CogError: There is no such version, or another function or another source of it derived it.
    """
    check_name(name)
    versions = list_versions(store, name)
    fresh = _described(store, name, derivation, command)
    if asked == NEW or (not versions and asked is None):
        return fresh
    number = versions[-1] if asked is None else _number(asked)
    if number not in versions:
        if number == fresh.version:
            return fresh
        there = f"there are {versions}" if versions else "there is none yet"
        raise CogError(
            f"layer {name!r} has no version {number}: {there}, --version new adds v{fresh.version}"
        )
    found = read_layer(store, name, number)
    if not found.agrees(fresh):
        raise _other(store, found, fresh, versions)
    return found


def _number(asked: str) -> int:
    if not re.fullmatch(r"v?[1-9]\d{0,8}", asked):
        raise CogError(f"--version is {asked!r}, must be new or a number, for example 2")
    return int(asked.removeprefix("v"))


def _described(store: Store, name: str, derivation: Derivation, command: str) -> LayerInfo:
    """The head of the version after all whose folders are there, also those that have lost their head."""
    folders = store.list_folders(f"layers/{name}")
    there = [int(one[1:]) for one in folders if is_version(one)]
    return LayerInfo(
        name=name,
        version=max(there, default=0) + 1,
        function=derivation.name,
        source=derivation.source,
        features=derivation.features,
        command=command,
        created_at=datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"),
        cogdata_version=cogdata.__version__,
    )


def _other(store: Store, found: LayerInfo, fresh: LayerInfo, versions: list[int]) -> CogError:
    """Say that a version is by something else, and what to type."""
    if found.function != fresh.function:
        what = f"was derived by {found.function}, not by {fresh.function}"
    elif found.source != fresh.source:
        what = f"was derived by another source of {found.function}"
        what += f" (sha256 {found.source[:12]}, now {fresh.source[:12]})"
    else:
        what = f"holds other features than {found.function} declares"
    same = [number for number in versions if read_layer(store, found.name, number).agrees(fresh)]
    older = f", --version {same[-1]} is by this one" if same else ""
    return CogError(f"layer {found.ref} {what}: --version new derives v{fresh.version} beside it{older}")
