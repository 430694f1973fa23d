"""Reading the store's files into the catalog's tables: one loader per kind of file.

A loader gets all new files of its kind at once. What it cannot read it reports, in one line per file; the
rest is loaded.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from typing import Final

import duckdb
import pyarrow as pa

from catalog.index import parquet
from catalog.index.features import feature_rows
from catalog.index.layers import commit_rows, layer_rows, utc
from cogdata.errors import CogError, UnreachableError
from cogdata.schema import PREDICATES
from cogdata.storage import collections, manifest, parts, runs
from cogdata.storage.columns import conform
from cogdata.storage.store import Store
from cogdata.storage.versions import check_table

_UNREADABLE: Final = (
    duckdb.Error, pa.ArrowException, OSError, ValueError, TypeError, KeyError, AttributeError, OverflowError,
    IndexError, RecursionError,
)  # fmt: skip
"""What a damaged file, or a folder in the place of one, makes its reader raise; CogError is a ValueError."""

_NO_SPACE: Final = "No space left"
"""What the system says of a full disk, which is no fault of the file that was being read."""


class NotNow(str):
    """Why a file could not be read, if that says nothing of the file: the next sync tries again."""


_Con = duckdb.DuckDBPyConnection
Loader = Callable[[_Con, Store, Sequence[str]], dict[str, str]]
"""(catalog, store, paths) → path → why it could not be read."""


_LoadEpisodes = Callable[[_Con, Store, Sequence[str]], None]
"""(catalog, store, episode tables): append their rows."""

_FILES_AT_ONCE: Final = 256


def insert(con: _Con, table: str, rows: pa.Table) -> None:
    """Append rows to a table of schema ``base``, column by column name.

    Args:
        con: Catalog, open for writing.
        table: Name within ``base``.
        rows: Columns that are left out become null.
    """
    con.register("arrived", rows)
    con.execute(f"INSERT INTO base.{table} BY NAME SELECT * FROM arrived")
    con.unregister("arrived")


def _collection_rows(store: Store, path: str) -> dict[str, pa.Table]:
    info = collections.read_collection(store, path.split("/")[1])
    low, high = info.success_range
    row = {
        "collection": info.name,
        "policy": info.policy,
        "env": info.env,
        "noise": info.noise,
        "root_seed": info.root_seed,
        "image_size": info.image_size,
        "horizon": info.horizon,
        "success_low": low,
        "success_high": high,
        "part_size": info.part_size,
        "command": info.command,
        "created_at": utc(info.created_at),
        "cogdata_version": info.cogdata_version,
        "code": info.code,
        "libraries": json.dumps(info.libraries, sort_keys=True),
        "host": info.host,
        "localize": info.localize,
        "env_options": info.env_options,
        "instruction": info.instruction,
    }
    found = {"collections": pa.Table.from_pylist([row])}
    if info.spec is not None:
        rows = feature_rows(info.spec)
        names = pa.array([info.name] * len(rows), pa.string())
        found["features"] = rows.append_column("collection", names)
    return found


def _mixture_rows(store: Store, path: str) -> dict[str, pa.Table]:
    info = manifest.MixtureInfo.from_json(store.read_text(path), store.path(path))
    episodes = store.read_table(path.replace("mixture.json", "episodes.parquet"))
    counts = list(info.counts.values())
    head = {
        "mixture": info.name,
        "version": info.version,
        "digest": info.digest,
        "shape": info.shape,
        "episodes": sum(count.episodes for count in counts),
        "transitions": sum(count.transitions for count in counts),
        "rewarded_before": sum(count.rewarded_before for count in counts),
        "rewarded_after": sum(count.rewarded_after for count in counts),
        "weights": json.dumps(info.weights, sort_keys=True),
        "counts": json.dumps({name: asdict(count) for name, count in info.counts.items()}, sort_keys=True),
        "image_height": info.image_size and info.image_size[0],
        "image_width": info.image_size and info.image_size[1],
        "scene_fields": list(info.scene_fields),
        "sql": info.sql,
        "created_at": utc(info.created_at),
        "cogdata_version": info.cogdata_version,
    }
    episodes.select(["episode_id"])  # KeyError: it is something else
    unlisted = (*manifest.LOCATION, "observations")
    members = [field for field in manifest.EPISODES if field.name not in unlisted]
    rows = conform(episodes, pa.schema(members))
    rows = rows.append_column("mixture", pa.array([info.name] * len(rows), pa.string()))
    rows = rows.append_column("version", pa.array([info.version] * len(rows), pa.int32()))
    return {"mixtures": pa.Table.from_pylist([head]), "mixture_episodes": rows}


def _run_rows(store: Store, path: str) -> dict[str, pa.Table]:
    info = runs.parse(runs.RunInfo, store.path(path), store.read_text(path))
    row = asdict(info) | {
        "config": json.dumps(info.config, sort_keys=True),
        "online": None if info.online is None else json.dumps(info.online, sort_keys=True),
        "created_at": utc(info.created_at),
    }
    return {"runs": pa.Table.from_pylist([row])}


def _state_rows(store: Store, path: str) -> dict[str, pa.Table]:
    state = runs.parse(runs.RunState, store.path(path), store.read_text(path))
    row = asdict(state) | {"run": path.split("/")[1], "updated_at": utc(state.updated_at)}
    return {"run_states": pa.Table.from_pylist([row])}


def _evaluation_rows(store: Store, path: str) -> dict[str, pa.Table]:
    table = store.read_table(path)
    check_table(table, store.path(path))
    judged = pa.array(runs.predicates_of(table), runs.JUDGED)
    core = pa.schema([field for field in runs.EVALUATIONS if field.name not in PREDICATES])
    rows = conform(runs.with_purpose(table), core)
    return {"evaluations": rows.append_column("predicates", judged)}


def _load_collections(con: _Con, store: Store, paths: Sequence[str]) -> dict[str, str]:
    """Read heads of collections; a feature per episode with the name of a column of episodes is a problem."""
    problems = _each(_collection_rows)(con, store, paths)
    taken = con.execute(
        "SELECT file, feature FROM base.features WHERE per = 'episode' AND feature IN (SELECT column_name "
        "FROM duckdb_columns() WHERE schema_name = 'main' AND table_name = 'episodes')"
    ).fetchall()
    for path, name in taken:
        if path in paths:
            said = f"{store.path(path)} declares {name} per episode, which episodes has a column for"
            problems[path] = f"{said}: its values are in episodes.extras"
    return problems


_Rows = Callable[[Store, str], dict[str, pa.Table]]


def _each(read: _Rows) -> Loader:
    """Turn a reader of one file into a loader of many that reports what it cannot read."""

    def load(con: _Con, store: Store, paths: Sequence[str]) -> dict[str, str]:
        problems: dict[str, str] = {}
        found: dict[str, dict[str, pa.Table]] = {}
        for path in paths:
            try:
                found[path] = {
                    table: rows.append_column("file", pa.array([path] * len(rows), pa.string()))
                    for table, rows in read(store, path).items()
                }
            except _UNREADABLE as error:
                problems[path] = _problem(store, path, error)
        try:
            _insert_all(con, list(found.values()))
        except _UNREADABLE as first:  # one of them does not fit its table: find out which
            _raise_if_full(first)
            for path, tables in found.items():
                try:
                    _insert_all(con, [tables])
                except _UNREADABLE as error:
                    problems[path] = _problem(store, path, error)
        return problems

    return load


def _insert_all(con: _Con, found: Sequence[Mapping[str, pa.Table]]) -> None:
    """Insert the rows of some files, or those of none of them."""
    con.execute("BEGIN")
    try:
        for table in sorted({name for tables in found for name in tables}):
            its_rows = [tables[table] for tables in found if table in tables]
            insert(con, table, pa.concat_tables(its_rows, promote_options="permissive"))
        con.execute("COMMIT")
    except BaseException:
        con.execute("ROLLBACK")
        raise


def _problem(store: Store, path: str, error: Exception) -> str:
    _raise_if_full(error)
    if _is_passing(error):
        said = (
            str(error)
            if isinstance(error, CogError)
            else f"cannot read {store.path(path)}: {_one_line(error)}"
        )
        return NotNow(f"{said}; the next command tries again")
    if isinstance(error, CogError):
        return str(error)
    return f"{store.path(path)} cannot be read ({_one_line(error)}): restore or remove it"


def _is_passing(error: Exception) -> bool:
    """Whether an error may be gone in a moment: the system's have a number, Arrow's of damage have none."""
    known = isinstance(error, OSError) and error.errno not in (None, errno.EISDIR)
    return known or isinstance(error, UnreachableError)


def _raise_if_full(error: Exception) -> None:
    if _NO_SPACE in str(error):
        raise error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


_HEADS: Final = pa.schema(
    [
        *((name, pa.string()) for name in ("file", "collection", "part")),
        *((name, pa.int32()) for name in ("start", "stop", "episodes")),
        *((name, pa.int64()) for name in ("steps", "frames", "bytes")),
        *((name, pa.string()) for name in ("cogdata_version", "code", "driver", "libraries")),
    ]
)


def _made_with(commit: parts.Commit) -> dict[str, str | None]:
    """What made the episodes of a part; null where an older version did not keep it."""
    made = commit.made_with or {}
    libraries = json.dumps(made["libraries"], sort_keys=True) if "libraries" in made else None
    return {"cogdata_version": made.get("cogdata"), "code": made.get("code"), "driver": made.get("driver"),
            "libraries": libraries}  # fmt: skip


def _load_parts(con: _Con, store: Store, paths: Sequence[str], load: _LoadEpisodes) -> dict[str, str]:
    """Read the heads and the episode tables of committed parts, the latter all at once."""
    problems: dict[str, str] = {}
    heads: dict[str, pa.Table] = {}
    for path in paths:
        _, collection, part, _ = path.split("/")
        try:
            commit = parts.read_commit(store, collection, part)
            row = {"file": path, "collection": collection, "part": part}
            heads[path] = pa.Table.from_pylist([asdict(commit) | row | _made_with(commit)], schema=_HEADS)
        except _UNREADABLE as error:
            problems[path] = _problem(store, path, error)
    try:
        _load_all(con, store, list(heads), load)
    except _UNREADABLE as first:  # one of them is damaged: find out which
        _raise_if_full(first)
        for path in heads:
            try:
                _load_all(con, store, [path], load)
            except _UNREADABLE as error:
                _raise_if_full(error)
                said = f"{store.path(_episodes_path(path))} cannot be read ({_one_line(error)})"
                passing = _is_passing(error)
                problems[path] = _problem(store, path, error) if passing else f"{said}: run `cog data verify`"
    if readable := [head for path, head in heads.items() if path not in problems]:
        insert(con, "parts", pa.concat_tables(readable))
    return problems


def _episodes_path(commit_path: str) -> str:
    return f"{commit_path.removesuffix(parts.COMMIT)}{parts.EPISODES}"


def _load_all(con: _Con, store: Store, commits: Sequence[str], load: _LoadEpisodes) -> None:
    """Append the rows of the parts that have these commits to ``base.episodes``, or none of them."""
    if commits:
        con.execute("BEGIN")
        try:
            load(con, store, [_episodes_path(path) for path in commits])
            con.execute("COMMIT")
        except BaseException:
            con.execute("ROLLBACK")
            raise


def _episode_schema() -> pa.Schema:
    """Columns of the episode tables of either layout; one that a table lacks is null."""
    more = [field for field in parts.PART_EPISODES_2 if field.name not in parts.PART_EPISODES.names]
    return pa.schema([*parts.PART_EPISODES, *more])


def _scan_episodes(con: _Con, store: Store, files: Sequence[str]) -> None:
    """Let DuckDB read the files of a local store, all at once."""
    if store.is_local:
        _add_episodes(con, parquet.scan(con, store, files, _episode_schema()))
    else:
        _read_episodes(con, store, files)


def _read_episodes(con: _Con, store: Store, files: Sequence[str]) -> None:
    """Read the files by Arrow, from their bytes."""
    for first in range(0, len(files), _FILES_AT_ONCE):
        chunk = files[first : first + _FILES_AT_ONCE]
        rows = pa.concat_tables(parquet.read(store, file, _episode_schema()) for file in chunk)
        con.register("arrived", rows)
        _add_episodes(con, "arrived")
        con.unregister("arrived")


def _add_episodes(con: _Con, source: str) -> None:
    key = "coalesce(episode_id, error('a row has no episode_id')) AS episode_id"
    con.execute(
        f"INSERT INTO base.episodes BY NAME SELECT * EXCLUDE ({parquet.FILE}) REPLACE ({key}), "
        f"left({parquet.FILE}, -{len(parts.EPISODES)}) || '{parts.COMMIT}' AS file, false AS shadowed "
        f"FROM {source}"
    )


LOADERS: Final[Mapping[str, Loader]] = {
    "collection": _load_collections,
    "part": partial(_load_parts, load=_scan_episodes),
    "layer": _each(layer_rows),
    "layer commit": _each(commit_rows),
    "mixture": _each(_mixture_rows),
    "run": _each(_run_rows),
    "state": _each(_state_rows),
    "evaluation": _each(_evaluation_rows),
}
"""Kind of file → its loader."""

OTHER_LOADERS: Final[Mapping[str, Loader]] = {**LOADERS, "part": partial(_load_parts, load=_read_episodes)}
"""The same, with another reader for the episodes: what they load can be held against the catalog."""
