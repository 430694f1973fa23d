"""Functions that derive features from episodes: how they declare them, and how they are found.

A function takes an :class:`~cogdata.episode.Episode` and returns a mapping from feature to value; a class is
made once per process, without arguments, and its objects are called in the same way::

    @derives(Feature("caption", "string", per=Per.EPISODE))
    def caption(episode: Episode) -> Mapping[str, Any]:
        return {"caption": f"{episode.steps} steps"}

One declared with ``batched=True`` takes a list of episodes and returns a list of such mappings.
"""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from cogdata.answers import OF_ERROR, shown
from cogdata.episode import Episode
from cogdata.errors import CogError, unknown
from cogdata.features import Feature
from cogdata.system.imports import import_from_here
from cogdata.system.interrupts import asked_to_end

GUIDE = "see docs/layers.md"

_Kind = TypeVar("_Kind", bound=Callable[..., Any])


def derives(*features: Feature, batched: bool = False) -> Callable[[_Kind], _Kind]:
    """Declare what a function, or a class whose objects are called, derives from an episode.

    Args:
        features: What it gives each episode.
        batched: Whether it takes a list of episodes and returns a list, in the same order.
    """

    def declare(function: _Kind) -> _Kind:
        function.features = features  # type: ignore[attr-defined]
        function.batched = batched  # type: ignore[attr-defined]
        return function

    return declare


@dataclass(frozen=True)
class Derivation:
    """A function that derives features, found by its name.

    Attributes:
        name: ``module:function``.
        features: What it gives each episode.
        batched: Whether it takes a list of episodes.
        source: sha256 (hex) of the source of its module.
        target: The function, or the class to make once per process.
    """

    name: str
    features: tuple[Feature, ...]
    batched: bool
    source: str
    target: Callable[..., Any]

    def __call__(self, episodes: Sequence[Episode]) -> list[Mapping[str, Any]]:
        """Run the function.

        Returns:
            A mapping per episode.

        Raises:
            CogError: The function fails, or returns something else.
        """
        function = self._made()
        named = episodes[0].meta.episode_id + (f" and {len(episodes) - 1} more" if len(episodes) > 1 else "")
        try:
            found = function(list(episodes)) if self.batched else [function(one) for one in episodes]
        except BaseException as error:
            if asked_to_end(error):
                raise
            raise CogError(f"{self.name} fails for {named}: {shown(error, OF_ERROR)}") from error
        if not isinstance(found, Sequence) or len(found) != len(episodes):
            got = f"{len(found)} results" if isinstance(found, Sequence) else shown(found)
            raise CogError(f"{self.name} gives {got} for {named}, must give a list of {len(episodes)}")
        for one in found:
            if not isinstance(one, Mapping):
                raise CogError(f"{self.name} gives {shown(one)} for {named}, must give a dict: {GUIDE}")
        return list(found)

    def _made(self) -> Callable[..., Any]:
        return _made(self.target, self.name) if isinstance(self.target, type) else self.target


@functools.cache
def _made(kind: type, name: str) -> Callable[..., Any]:
    """Make the object of a class, once per process.

    Raises:
        CogError: It fails, or cannot be called.
    """
    try:
        made = kind()
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(f"{name} cannot be made by {kind.__name__}(): {shown(error, OF_ERROR)}") from error
    if not callable(made):
        raise CogError(f"{name} makes an object that cannot be called: give the class a __call__, {GUIDE}")
    return made  # type: ignore[no-any-return]


def find_function(name: str) -> Derivation:
    """Find a function by name: in a module of the working folder first, else of what is installed.

    Args:
        name: ``module:function`` or ``module:Class``.

    Raises:
        CogError: There is none, or it does not declare what it derives.
    """
    module, colon, attribute = name.partition(":")
    dotted = all(part.isidentifier() for part in module.split("."))
    if not colon or not attribute.isidentifier() or not dotted:
        raise CogError(f"--fn {name!r} must be module:function, for example my_layers:caption")
    return _found(name, module, attribute)


@functools.cache
def _found(name: str, module: str, attribute: str) -> Derivation:
    try:
        found = import_from_here(module)
    except CogError:
        raise
    except BaseException as error:
        if asked_to_end(error):
            raise
        raise CogError(
            f"cannot import {module} of --fn {name}: {shown(error, OF_ERROR)}; the current directory is "
            f"{Path.cwd()}"
        ) from None
    target = getattr(found, attribute, None)
    if target is None:
        declared = [key for key, value in vars(found).items() if hasattr(value, "features")]
        raise unknown(f"function in {getattr(found, '__file__', module)}", attribute, declared)
    features = getattr(target, "features", None)
    features = tuple(features) if isinstance(features, Sequence) else ()
    if not callable(target) or not features or not all(isinstance(one, Feature) for one in features):
        raise CogError(
            f"{name} does not declare what it derives: put @derives(Feature(…)) before it, {GUIDE}"
        )
    source = getattr(sys.modules[module], "__file__", None)
    if source is None:
        raise CogError(f"{module} of --fn {name} has no source file, so that its changes would go unnoticed")
    digest = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    return Derivation(name, features, getattr(target, "batched", False) is True, digest, target)
