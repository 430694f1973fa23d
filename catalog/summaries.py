"""What everybody asks about collections, mixtures and runs, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from catalog.doctor import describe_store
from catalog.mixtures.mixture import list_mixtures
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.intervals import mcnemar
from cogdata.storage.manifest import MixtureInfo
from cogdata.storage.runs import read_run
from cogdata.storage.store import Store

_ONCE: Final = """
    select * from evaluations
    qualify row_number() over (partition by run, env, update, seed order by created_at desc) = 1
"""
"""A seed that was judged twice at one update counts once."""

_RUNS: Final = f"""
    with once as ({_ONCE}), judged as (
        select run, env, update, count(*) as n, avg(success::int) as rate from once group by all
    ), newest as (
        select run, env, n, rate from judged
        qualify row_number() over (partition by run, env order by update desc) = 1
    )
    select r.run, r.algo, r.method, r.obs, r.seed, r.mixture || '@' || r.mixture_version as mixture,
           r.online ->> 'env' as online, r.status, r.updates_done, n.env, n.n as episodes,
           round(n.rate, 3) as success
    from runs r left join newest n using (run) order by r.created_at, r.run, n.env
"""

_JUDGED: Final = f"""
    with once as ({_ONCE})
    select env, update, count(*) as episodes, count_if(success) as successes,
           round(avg(success::int), 3) as success
    from once where run = '{{run}}' group by all order by env, update
"""

_PAIRED: Final = """
    with newest as (
        select * from evaluations where run in ('{a}', '{b}')
        qualify update = max(update) over (partition by run, env)
    ), judged as (
        select run, env, seed, success from newest
        qualify row_number() over (partition by run, env, seed order by created_at desc) = 1
    )
    select x.env, count(*) as episodes, count_if(x.success) as a, count_if(y.success) as b,
           count_if(x.success and not y.success) as only_a,
           count_if(y.success and not x.success) as only_b
    from judged x join judged y on x.env = y.env and x.seed = y.seed and x.run = '{a}' and y.run = '{b}'
    group by x.env order by x.env
"""


def collections_table(store: Store) -> pa.Table:
    """Return a row per collection: who acted where, how much, how well.

    Args:
        store: Which store.
    """
    shown = (
        "collection", "policy", "env", "noise", "episodes", "steps", "success_rate", "bytes", "created_at",
    )  # fmt: skip
    found = describe_store(store)
    return pa.table({name: [getattr(one, name) for one in found] for name in shown})


def mixtures_table(store: Store) -> pa.Table:
    """Return a row per mixture version: what is in it, and its shares of a batch.

    Args:
        store: Which store.
    """
    infos = list_mixtures(store)
    columns = {
        "mixture": [info.ref for info in infos],
        "shape": [info.shape for info in infos],
        "episodes": [_by_source(info, "episodes") for info in infos],
        "transitions": [sum(count.transitions for count in info.counts.values()) for info in infos],
        "rewarded": [sum(count.rewarded_after for count in info.counts.values()) for info in infos],
        "shares": [
            ", ".join(f"{name} {share:.3g}" for name, share in sorted(info.weights.items())) for info in infos
        ],
        "digest": [info.digest[:12] for info in infos],
        "created_at": [info.created_at for info in infos],
    }
    return pa.table(columns)


def _by_source(info: MixtureInfo, name: str) -> str:
    return ", ".join(f"{source} {getattr(count, name):,}" for source, count in sorted(info.counts.items()))


def runs_table(store: Store) -> pa.Table:
    """Return a row per run and environment: what it is, how far it came, its newest success rate.

    ``online`` is the environment that a fine-tuned run collects in; null: it learns from its mixture alone.

    Args:
        store: Which store.
    """
    return run_query(store, _RUNS).table


def judged_table(store: Store, run: str) -> pa.Table:
    """Return a row per environment and update that a run was judged at.

    Args:
        store: Which store.
        run: Run id.

    Raises:
        CogError: No such run.
    """
    return run_query(store, _JUDGED.format(run=read_run(store, run).run)).table


@dataclass(frozen=True)
class Comparison:
    """Two runs on the seeds of one environment that both were judged on, newest checkpoint of each.

    Attributes:
        env: Where.
        episodes: Seeds in common.
        a: Successes of the first.
        b: Successes of the second.
        only_a: Seeds on which only the first succeeded.
        only_b: Seeds on which only the second succeeded.
    """

    env: str
    episodes: int
    a: int
    b: int
    only_a: int
    only_b: int

    @property
    def p_value(self) -> float:
        """Of McNemar's exact test that both are equally good."""
        return mcnemar(self.only_a, self.only_b)


def compare_runs(store: Store, a: str, b: str) -> list[Comparison]:
    """Compare two runs pairwise.

    Args:
        store: Which store.
        a: Run id.
        b: Run id.

    Raises:
        CogError: No such run, or no seed in common.
    """
    names = {"a": read_run(store, a).run, "b": read_run(store, b).run}
    rows = run_query(store, _PAIRED.format(**names)).table.to_pylist()
    if not rows:
        raise CogError(f"{a} and {b} were judged on no common environment and seed: run `cog eval` on both")
    return [Comparison(**row) for row in rows]
