"""What `cog train` is told, by a TOML file and by the command line, and how it is written down again.

A file has the options of the command as keys (``eval_env`` for ``--eval-env``) and a table ``[set]`` of
fields of the configuration; for a method with several stages ``[set.STAGE]`` too. Every key and type is
checked.
"""

from __future__ import annotations

import json
import tomllib
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Final, Literal

from cogdata.errors import CogError, unknown
from trainers.algorithm import Config

_EXPECTED: Final[Mapping[object, str]] = {
    int: "a whole number", float: "a number", bool: "true or false", str: "a text in quotes",
    tuple[str, ...]: "a list of texts", tuple[int, ...]: "a list of one or more whole numbers",
}  # fmt: skip


@dataclass(frozen=True)
class TrainSettings:
    """The options of `cog train`; None: not said. A key of a file is a field's name (``from`` for ``from_``).

    Attributes:
        set: ``key=value`` texts, later ones win.
        tables: Table ``[set]`` of the file, not yet checked.
        file: Where ``tables`` come from.
    """

    mixture: str | None = None
    method: str | None = None
    algo: str | None = None
    preset: str | None = None
    obs: str | None = None
    seed: int | None = None
    seeds: str | None = None
    updates: int | None = None
    device: str | None = None
    threads: int | None = None
    memory: str | None = None
    from_: str | None = None
    eval_env: str | None = None
    eval_every: int | None = None
    eval_episodes: int | None = None
    success_return: float | None = None
    guard: str | None = None
    log: tuple[str, ...] | None = None
    pool: str | None = None
    set: tuple[str, ...] = ()
    tables: Mapping[str, Any] = field(default_factory=dict)
    file: Path | None = None

    def under(self, typed: TrainSettings) -> TrainSettings:
        """These settings, where the command line does not say something else.

        A later one of these overrides an earlier one: the file's ``updates``, its ``[set]``, ``--updates``,
        ``--set``. A typed option drops those of the file that it cannot go with. If ``--algo`` or
        ``--method`` differs from the file, its ``[set]`` is ignored.
        """
        said = {name: getattr(typed, name) for name in OPTIONS if getattr(typed, name) is not None}
        silent = {rival: None for name in said for rival in _RIVALS.get(name, ())}
        updates = () if typed.updates is None else (f"updates={typed.updates}",)
        tables = {} if self._of_another(said) else self.tables
        return replace(self, **(silent | said), tables=tables, set=(*updates, *typed.set))

    def _of_another(self, said: Mapping[str, Any]) -> bool:
        """Whether these settings are of another algorithm or method than what was said."""
        ours = (self.algo, self.method)
        theirs = (said.get("algo"), said.get("method"))
        return ours != (None, None) and theirs != (None, None) and ours != theirs

    def overrides(self, configs: Mapping[str, type[Config]]) -> list[str]:
        """Every setting of the configuration as ``key=value``, later ones win.

        Args:
            configs: Stage → its configuration, to check the file's ``[set]`` against.

        Raises:
            CogError: An unknown key or a value of the wrong type in the file.
        """
        stages = [key for key, value in self.tables.items() if isinstance(value, dict)]
        if self.method is None and stages:
            raise CogError(
                f"{self.file}: [set.{stages[0]}] is for a stage of a method: name it, or use [set]"
            )
        updates = [] if self.updates is None else [f"updates={self.updates}"]
        return [*updates, *_pairs(self.file, self.tables, configs), *self.set]


OPTIONS: Final = tuple(one.name for one in fields(TrainSettings) if one.name not in ("set", "tables", "file"))
"""Fields that are options of the command and keys of a file."""

_RIVALS: Final[Mapping[str, tuple[str, ...]]] = {
    "seed": ("seeds",), "seeds": ("seed",), "method": ("algo", "from_"), "algo": ("method",),
}  # fmt: skip
"""Option → those that it cannot be given with."""

RENAMED: Final = {"steps": "updates", "alarm": "guard"}
"""Key of an earlier version → its name today."""

RUN_OPTIONS: Final = (
    "mixture", "method", "algo", "preset", "obs", "seed", "seeds", "device", "threads", "memory", "from_",
)  # fmt: skip
"""Those that say which run it is, beside what is set; the others may change when one goes on."""


def read_settings(path: Path) -> TrainSettings:
    """Read a TOML file.

    Raises:
        CogError: It cannot be read, is no TOML, or has an unknown key or a value of the wrong type.
    """
    try:
        data = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise CogError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None
    except tomllib.TOMLDecodeError as error:
        raise CogError(f"{path} is no TOML: {error}") from None
    tables = data.pop("set", {})
    if not isinstance(tables, dict):
        raise CogError(f"{path}: set must be a table of settings, found {_shown(tables)}")
    hints = {name.rstrip("_"): _plain(typing.get_type_hints(TrainSettings)[name]) for name in OPTIONS}
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key in RENAMED:
            raise CogError(f"{path}: key {key!r} is called {RENAMED[key]!r} now: write {RENAMED[key]} = …")
        if key not in hints:
            raise CogError(f"{path}: {unknown('key', key, (*hints, 'set'))}")
        _check(path, key, value, hints[key])
        values[f"{key}_" if key == "from" else key] = tuple(value) if isinstance(value, list) else value
    return TrainSettings(**values, tables=tables, file=path)


def _plain(hint: Any) -> Any:  # noqa: ANN401 - a type or what stands for one
    """The type of an option that may be left out."""
    if isinstance(hint, types.UnionType):
        return next(kind for kind in typing.get_args(hint) if kind is not type(None))
    return hint


def _pairs(path: Path | None, tables: Mapping[str, Any], configs: Mapping[str, type[Config]]) -> list[str]:
    """Check a table ``[set]`` against configurations and turn it into ``key=value`` texts."""
    hints = {stage: typing.get_type_hints(config) for stage, config in configs.items()}
    every = {name: hint for stage in hints.values() for name, hint in stage.items()}
    pairs = []
    for key, value in tables.items():
        if isinstance(value, dict):
            if key not in hints:
                raise CogError(f"{path}: {unknown('stage in [set]', key, hints)}")
            pairs += [f"{key}.{name}={_text(path, name, one, hints[key])}" for name, one in value.items()]
        else:
            pairs.append(f"{key}={_text(path, key, value, every)}")
    return pairs


def _text(path: Path | None, key: str, value: object, hints: Mapping[str, Any]) -> str:
    if key not in hints:
        raise CogError(f"{path}: {unknown('key in [set]', key, hints)}")
    _check(path, f"set.{key}", value, hints[key])
    if isinstance(value, bool):
        return str(value).lower()
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _check(path: Path | None, key: str, value: object, hint: Any) -> None:  # noqa: ANN401 - as above
    """Refuse a value that is not of the type; a whole number is a number too, true is none."""
    if typing.get_origin(hint) is Literal:
        choices = typing.get_args(hint)
        if value not in choices:
            raise CogError(f"{path}: {key} must be one of {', '.join(choices)}, found {_shown(value)}")
        return
    if isinstance(value, list):
        (kind, _) = typing.get_args(hint) or (None, None)
        fits = kind is not None and (bool(value) or kind is str) and all(type(one) is kind for one in value)
    else:
        fits = type(value) is hint or (hint is float and type(value) is int)
    if not fits:
        raise CogError(f"{path}: {key} must be {_EXPECTED[hint]}, found {_shown(value)}")


def _shown(value: object) -> str:
    """A value as TOML has it; what JSON cannot say (a date) as Python does."""
    return json.dumps(value, default=str, ensure_ascii=False)


def to_toml(options: Mapping[str, Any], tables: Mapping[str, Mapping[str, Any]]) -> str:
    """Write a file that :func:`read_settings` reads.

    Args:
        options: Key → value; None: left out.
        tables: Title, for example "set", → its keys.
    """
    lines = [f"{name.rstrip('_')} = {_toml(value)}" for name, value in options.items() if value is not None]
    for title, table in tables.items():
        lines += ["", f"[{title}]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
    return "\n".join(lines) + "\n"


def _toml(value: object) -> str:
    if isinstance(value, float):
        return repr(value)  # JSON's names of the infinite numbers are not TOML's
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
