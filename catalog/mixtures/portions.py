"""Portions of a frozen mixture, frozen themselves: what rivals of the method learn from.

A portion is SQL over the frozen rows, so episodes, rewards, weights and ranges are those of the mixture, and
the mixture that it comes from is named in its own head. Where a recipe of that name exists it has the same
content: freezing gives the version that is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from catalog.index import parquet
from catalog.mixtures.mixture import freeze
from catalog.query import run_query
from cogdata.errors import CogError, unknown
from cogdata.schema import LONGEST_NAME, NAME_PATTERN
from cogdata.storage import manifest
from cogdata.storage.manifest import MixtureInfo, mixture_folder
from cogdata.storage.store import Store


@dataclass(frozen=True)
class Portion:
    """What is taken of a mixture.

    Attributes:
        source: Source whose episodes are taken.
        suffix: Of the name of the frozen portion.
        only: Further condition over the columns of ``episodes``.
    """

    source: str
    suffix: str
    only: str = "true"


PORTIONS: Final[Mapping[str, Portion]] = {
    "prior": Portion("prior", "prior"),
    "task": Portion("task", "no_prior"),
    "oracle": Portion("task", "oracle", "e.success"),
}
"""Name → portion; "oracle" are the task episodes that succeeded."""

_EPISODES: Final = """select m.episode_id, m.source, m.reward, m.weight, m.t_start, m.t_end
from mixture_episodes m join episodes e using (episode_id)
where m.mixture = '{name}' and m.version = {version} and m.source = '{source}' and {only}"""

_PART: Final = """select m.episode_id, m.source, {reward} as reward, m.weight, m.t_start, {until} as t_end
from mixture_episodes m join episodes e using (episode_id)
where m.mixture = '{name}' and m.version = {version} and ({where})"""

_STEPS: Final = """select m.episode_id, unnest(r.t) as t, unnest(r.reward) as reward, m.source, m.weight
from mixture_episodes m join episodes e using (episode_id) join {rewards} r using (episode_id)
where m.mixture = '{name}' and m.version = {version} and m.source = '{source}' and {only}"""

_LABELLED: Final = """select l.episode_id, l.t, l.source, l.reward, m.weight
from {labels} l join mixture_episodes m using (episode_id, source)
where m.mixture = '{name}' and m.version = {version}
union all by name
select m.episode_id, s.t, m.source, coalesce(m.reward, s.reward) as reward, m.weight
from mixture_episodes m join steps s using (episode_id)
where m.mixture = '{name}' and m.version = {version} and m.source = 'task'
    and s.t >= m.t_start and s.t < m.t_end"""


def portion_sql(store: Store, info: MixtureInfo, portion: str) -> str:
    """Return the query that a portion is frozen from.

    Args:
        store: Where the mixture is.
        info: Its head.
        portion: Key of :data:`PORTIONS`.

    Raises:
        CogError: The mixture was frozen step by step in a remote store, whose files SQL does not read.
    """
    part = PORTIONS[portion]
    if info.shape == "step" and not store.is_local:
        raise CogError(
            f"mixture {info.ref} was frozen step by step in a remote store, where SQL reads no files: freeze "
            f"its {portion} with a query of your own, and train on that"
        )
    path = f"{mixture_folder(info.name, info.version)}/rewards.parquet"
    return (_STEPS if info.shape == "step" else _EPISODES).format(
        name=info.name,
        version=info.version,
        source=part.source,
        only=part.only,
        rewards=parquet.read_call(store, path) if info.shape == "step" else "",
    )


def freeze_portion(store: Store, ref: str, portion: str) -> MixtureInfo:
    """Freeze a portion of a mixture; the same again gives the same version.

    Args:
        store: Where the mixture is.
        ref: ``name`` (newest version) or ``name@version``.
        portion: Key of :data:`PORTIONS`.

    Raises:
        CogError: No such mixture or portion, or the mixture has no such episodes.
    """
    if portion not in PORTIONS:
        raise unknown("portion", portion, PORTIONS)
    info, part = manifest.read_info(store, ref), PORTIONS[portion]
    if part.source not in info.counts:
        raise CogError(
            f"mixture {info.ref} has the sources {', '.join(sorted(info.counts))}, none is named "
            f"{part.source!r}: say '{part.source}' as source in its query"
        )
    if set(info.counts) == {part.source} and portion != "oracle":
        return info
    name = _portion_name(info, part)
    if portion == "oracle" and not _succeeded(store, info):
        raise CogError(f"no episode of source {part.source!r} of mixture {info.ref} succeeded")
    return freeze(store, name, portion_sql(store, info, portion), selection=info.same_features).info


def freeze_part(
    store: Store,
    ref: str,
    suffix: str,
    *,
    where: str = "true",
    until: str = "m.t_end",
    reward: str = "m.reward",
) -> MixtureInfo:
    """Freeze what SQL makes of a mixture's episodes, with the mixture's shares of every batch.

    The SQL is over ``m``, the rows in ``mixture_episodes``, and ``e``, their rows in ``episodes``.

    Args:
        store: Where the mixture is.
        ref: ``name`` (newest version) or ``name@version``.
        suffix: Of the name of the new mixture.
        where: Which episodes.
        until: Before which step an episode ends.
        reward: Of each of its transitions; null: as collected.

    Raises:
        CogError: No such mixture, it was frozen step by step, or no episode is left.
    """
    info = manifest.read_info(store, ref)
    info.require_episodes()
    sql = _PART.format(name=info.name, version=info.version, where=where, until=until, reward=reward)
    return freeze(store, f"{info.name}_{suffix}", sql, weights=info.shares, selection=info.same_features).info


def freeze_labelled(store: Store, ref: str, name: str, labels: str) -> MixtureInfo:
    """Freeze a mixture anew, with other rewards for all but its task data, and the same shares of batches.

    Args:
        store: Where the mixture is; a folder of this machine.
        ref: ``name`` (newest version) or ``name@version``.
        name: Of the new mixture.
        labels: Path within the store of a Parquet file of ``episode_id, t, source, reward``, a row for each
            of these transitions.

    Raises:
        CogError: No such mixture, it was frozen step by step, or the store is remote.
    """
    info = manifest.read_info(store, ref)
    check_labellable(store, info)
    source = parquet.read_call(store, labels)
    sql = _LABELLED.format(name=info.name, version=info.version, labels=source)
    return freeze(store, name, sql, weights=info.shares, selection=info.same_features).info


def check_labellable(store: Store, info: MixtureInfo) -> None:
    """Refuse a mixture whose rewards cannot be exchanged.

    Raises:
        CogError: It was frozen step by step, or lies in a remote store.
    """
    info.require_episodes()
    if not store.is_local:
        raise CogError(
            f"mixture {info.ref} is in a remote store, where SQL reads no files: do it in a local one"
        )


def _portion_name(info: MixtureInfo, part: Portion) -> str:
    name = f"{info.name}_{part.suffix}"
    if not NAME_PATTERN.fullmatch(name):
        raise CogError(
            f"mixture {info.ref} has too long a name for its portion {name!r} of {len(name)} characters: "
            f"freeze it under a name of at most {LONGEST_NAME - len(part.suffix) - 1} characters"
        )
    return name


def _succeeded(store: Store, info: MixtureInfo) -> bool:
    return bool(len(run_query(store, portion_sql(store, info, "oracle"), limit=1).table))
