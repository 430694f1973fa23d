"""What a mixture holds: its episodes, and in one pass over their steps the counts, rewards and statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from catalog.index import parquet
from catalog.mixtures.measure import Measures, row_keys
from catalog.query import add_steps
from cogdata.errors import CogError, unknown
from cogdata.features import EpisodeSpec, Feature
from cogdata.storage import manifest
from cogdata.storage.manifest import SourceCounts, Stats
from cogdata.storage.selection import Selection
from cogdata.storage.store import Store

_BATCH_ROWS: Final = 65_536
_MOST_EMBODIMENTS: Final = 256
_FEATURE: Final = "feature "
"""Put before a feature's name, which may be that of another column."""
_Con = duckdb.DuckDBPyConnection


@dataclass(frozen=True)
class Contents:
    """What is frozen of a query's rows.

    Attributes:
        episodes: Table of ``manifest.EPISODES``, by source and episode_id.
        counts: Per source.
        rewards: Table of ``manifest.REWARDS``; None for the episode shape.
        stats: Of all transitions that take part.
        unfollowed: Number of transitions left out, because the observation after them is unknown.
        reward_range: Smallest and largest reward as frozen.
    """

    episodes: pa.Table
    counts: dict[str, SourceCounts]
    rewards: pa.Table | None
    stats: Stats
    unfollowed: int = 0
    reward_range: tuple[float, float] = (0.0, 1.0)


def collect_contents(
    con: _Con,
    store: Store,
    shape: str,
    spec: EpisodeSpec,
    selection: Selection,
    reads: Callable[[str], bool] | None = None,
) -> Contents:
    """Work out what is frozen.

    Args:
        con: Open catalog with the table ``chosen`` (see :func:`catalog.mixtures.shape.choose`).
        store: Where the steps lie.
        shape: "episode" or "step".
        spec: Declaration of what batches deliver.
        selection: What is taken of the episodes.
        reads: Whether a feature of a layer is taken; None: none is.

    Raises:
        CogError: The files of the steps are damaged, or have no such steps.
    """
    unfollowed = _leave_out_unfollowed(con, shape)
    _add_members(con, shape)
    _check_rewards(con, shape)
    episodes = _episodes(con, _embodiment(con, selection.stats_by))
    only = con.execute(
        "SELECT DISTINCT collection, part FROM episodes SEMI JOIN chosen USING (episode_id) ORDER BY ALL"
    ).fetchall()
    kinds = {column.name: column.types[0] for column in add_steps(con, store, only, reads)}
    measured = _measured(spec)
    embodiments, of_episode = _embodiments(episodes, selection.stats_by)
    measures = Measures(measured, embodiments, selection.relative_to)
    read = _with_base(measured, spec.action, selection.relative_to)
    rows: list[_Rows] = []
    columns = ", ".join(_selected(feature, selection, kinds) for feature in read)
    for batch in _transitions(con, shape, columns):
        rows.append(_Rows.of(batch))
        number = rows[-1].number
        values = {one.name: batch.column(f"{_FEATURE}{one.name}") for one in read}
        measures.add(values, row_keys(number, rows[-1].t), of_episode[number] if embodiments else None)
    if not rows:
        raise CogError("the steps of the chosen episodes are missing: run `cog data verify`")
    joined = _Rows.joined(rows)
    return Contents(
        episodes=episodes,
        counts=_counts(episodes, joined),
        rewards=_rewards(episodes, joined) if shape == "step" else None,
        stats=measures.stats(),
        unfollowed=unfollowed,
        reward_range=(float(joined.frozen.min()), float(joined.frozen.max())),
    )


def _leave_out_unfollowed(con: _Con, shape: str) -> int:
    """Leave out transitions whose next observation is unknown; return how many there were.

    Raises:
        CogError: No other is left.
    """
    cut = "e.observations = e.steps AND coalesce(c.t_end, e.steps) = e.steps"
    gone = "e.observations = e.steps AND coalesce(c.t_start, 0) = e.steps - 1"
    if shape == "step":
        cut = gone = "e.observations = e.steps AND c.t = e.steps - 1"
    found = con.execute(f"SELECT count(*) FROM chosen c JOIN episodes e USING (episode_id) WHERE {cut}")
    count = int(found.fetchall()[0][0])
    if count:
        con.execute(f"DELETE FROM chosen c USING episodes e WHERE c.episode_id = e.episode_id AND {gone}")
        if not con.execute("SELECT count(*) FROM chosen").fetchall()[0][0]:
            raise CogError(
                f"nothing to freeze: all {count:,} transitions of the query lead to an observation that was "
                f"not stored"
            )
    return count


def _check_rewards(con: _Con, shape: str) -> None:
    """Refuse episodes without rewards, unless the query says them.

    Raises:
        CogError: It names one.
    """
    rows = {"episode": "members", "step": "chosen"}[shape]
    row = con.execute(
        f"SELECT min(episode_id), count(DISTINCT episode_id) FROM {rows} m "
        "JOIN episodes e USING (episode_id) WHERE m.reward IS NULL AND e.total_reward IS NULL"
    ).fetchall()[0]
    if row[1]:
        more = f" (and {row[1] - 1} more)" if row[1] > 1 else ""
        raise CogError(
            f"episode {row[0]!r}{more} was stored without rewards: say them in the query, for example "
            f"select {'episode_id, t' if shape == 'step' else 'episode_id'}, 0.0 as reward …"
        )


def _add_members(con: _Con, shape: str) -> None:
    """Make ``members``, a row per source and episode; ``number`` is its row in the table of episodes."""
    chosen = {
        "episode": "SELECT c.* REPLACE (CASE WHEN e.observations > e.steps THEN c.t_end "
        "ELSE least(coalesce(c.t_end, e.steps), e.observations - 1) END AS t_end) "
        "FROM chosen c JOIN episodes e USING (episode_id)",
        "step": "SELECT episode_id, any_value(source) AS source, NULL::FLOAT AS reward, "
        "any_value(weight) AS weight, min(t) AS t_start, max(t) + 1 AS t_end FROM chosen GROUP BY episode_id",
    }[shape]
    con.execute(
        "CREATE TEMP TABLE members AS SELECT *, "
        f"row_number() OVER (ORDER BY source, episode_id) - 1 AS number FROM ({chosen})"
    )


def _embodiment(con: _Con, column: str) -> str:
    """What the embodiment of an episode is, in SQL.

    Raises:
        CogError: There is no such column of ``episodes``.
    """
    if column in ("", "source"):
        return "m.source" if column else "NULL"
    known = [row[0] for row in con.execute("DESCRIBE episodes").fetchall()]
    if column not in known:
        raise unknown("column of --stats-by", column, [*known, "source"])
    return f"e.{parquet.quoted(column)}::VARCHAR"


def _embodiments(episodes: pa.Table, column: str) -> tuple[list[str], NDArray[np.int32]]:
    """Names of the embodiments, sorted, and the index of each episode's, -1: it has none.

    Raises:
        CogError: There are too many to have statistics each.
    """
    values = episodes.column("embodiment").to_pylist()
    names = sorted({value for value in values if value is not None})
    if len(names) > _MOST_EMBODIMENTS:
        raise CogError(
            f"--stats-by {column} has {len(names):,} values among these episodes, must have at most "
            f"{_MOST_EMBODIMENTS}: name a column of few, for example collection or env"
        )
    index = {name: number for number, name in enumerate(names)}
    return names, np.array([index.get(value, -1) for value in values], np.int32)


def _episodes(con: _Con, embodiment: str) -> pa.Table:
    given = {
        "weight": "coalesce(m.weight, 1)",
        "t_start": "coalesce(m.t_start, 0)",
        "t_end": "coalesce(m.t_end, e.steps)",
        "observations": "CASE WHEN e.members IS NULL THEN NULL ELSE e.observations END",
        "embodiment": embodiment,
    }
    own = ("episode_id", "source", "reward")
    columns = ", ".join(
        f"{given.get(name, f'm.{name}' if name in own else f'e.{name}')} AS {name}"
        for name in manifest.EPISODES.names
    )
    sql = f"SELECT {columns} FROM members m JOIN episodes e USING (episode_id) ORDER BY m.number"
    return con.sql(sql).to_arrow_table().cast(manifest.EPISODES)


def _measured(spec: EpisodeSpec) -> tuple[Feature, ...]:
    """Features of which there are statistics: every vector that is a column, and the action."""
    return (*(one for one in spec.columns if one.is_vector), spec.action)


def _with_base(measured: tuple[Feature, ...], action: Feature, name: str) -> tuple[Feature, ...]:
    """What is measured, and the observation that a transformed action is a difference from."""
    if not name or any(one.name == name for one in measured):
        return measured
    return (*measured, Feature(name, "float64", action.shape))


def _transitions(con: _Con, shape: str, columns: str) -> Iterator[pa.RecordBatch]:
    """Every transition that takes part: its member, its rewards, and columns of the steps."""
    picked = {
        "episode": "members p ON s.episode_id = p.episode_id AND s.t >= coalesce(p.t_start, 0) "
        "AND (p.t_end IS NULL OR s.t < p.t_end)",
        "step": "(SELECT c.episode_id, c.t, c.reward, m.number FROM chosen c JOIN members m "
        "USING (episode_id)) p ON s.episode_id = p.episode_id AND s.t = p.t",
    }[shape]
    relation = con.sql(
        "SELECT p.number::INTEGER AS number, s.t, coalesce(s.reward, 0)::FLOAT AS collected, "
        f"coalesce(p.reward, s.reward)::FLOAT AS frozen, {columns} "
        f"FROM steps s JOIN {picked} WHERE s.action IS NOT NULL"
    )
    yield from relation.to_arrow_reader(_BATCH_ROWS)


def _selected(feature: Feature, selection: Selection, kinds: Mapping[str, pa.DataType]) -> str:
    """A feature of the steps as a list of numbers, whatever it is called there; null where it is padded."""
    found = [name for name in selection.origins(feature.name) if name in kinds]
    if not found:
        raise CogError(f"the steps of the chosen episodes lack {feature.name}: run `cog data verify`")
    lists = [
        f"s.{parquet.quoted(name)}"
        if pa.types.is_list(kinds[name])
        else f"CASE WHEN s.{parquet.quoted(name)} IS NOT NULL THEN [s.{parquet.quoted(name)}] END"
        for name in found
    ]
    values = f"coalesce({', '.join(lists)})" if len(lists) > 1 else lists[0]
    if feature.dtype not in ("float32", "float64"):
        values = f"{values}::DOUBLE[]"
    if feature.name in selection.pad:
        values = f"list_resize({values}, {feature.size})"
    return f"{values} AS {parquet.quoted(_FEATURE + feature.name)}"


@dataclass(frozen=True)
class _Rows:
    """Transitions.

    Attributes:
        number: int32 (N,): row of its episode.
        t: int32 (N,).
        collected: float32 (N,): reward.
        frozen: float32 (N,): reward.
    """

    number: NDArray[np.int32]
    t: NDArray[np.int32]
    collected: NDArray[np.float32]
    frozen: NDArray[np.float32]

    @classmethod
    def of(cls, batch: pa.RecordBatch) -> _Rows:
        """Copy the columns: a view of one keeps the whole batch."""
        return cls(*(batch.column(name).to_numpy().copy() for name in cls.__dataclass_fields__))

    @classmethod
    def joined(cls, rows: list[_Rows]) -> _Rows:
        return cls(
            *(np.concatenate([getattr(some, name) for some in rows]) for name in cls.__dataclass_fields__)
        )


def _counts(episodes: pa.Table, rows: _Rows) -> dict[str, SourceCounts]:
    encoded = episodes.column("source").combine_chunks().dictionary_encode()
    names, source = encoded.dictionary.to_pylist(), encoded.indices.to_numpy()
    of_row = source[rows.number]
    counted = zip(
        *(
            np.bincount(some, minlength=len(names)).tolist()
            for some in (source, of_row, of_row[rows.collected > 0], of_row[rows.frozen > 0])
        ),
        strict=True,
    )
    return {name: SourceCounts(*numbers) for name, numbers in zip(names, counted, strict=True)}


def _rewards(episodes: pa.Table, rows: _Rows) -> pa.Table:
    """Rewards step by step, an episode a row, by name; in the step shape an episode has one source."""
    ids = episodes.column("episode_id").combine_chunks()
    by_name = pc.sort_indices(ids)
    place = np.empty(len(ids), np.int64)
    place[by_name.to_numpy()] = np.arange(len(ids))
    of_row = place[rows.number]
    order = np.argsort((of_row << 32) + rows.t, kind="stable")
    ends = np.concatenate([[0], np.cumsum(np.bincount(of_row, minlength=len(ids)))])
    lists = {
        name: pa.ListArray.from_arrays(pa.array(ends, pa.int32()), pa.array(values[order]))
        for name, values in (("t", rows.t), ("reward", rows.frozen))
    }
    return pa.table({"episode_id": ids.take(by_name), **lists}, manifest.REWARDS)
