"""What everybody asks about collections, mixtures and runs, as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pyarrow as pa

from catalog.doctor import describe_store
from catalog.mixtures.mixture import list_mixtures
from catalog.query import run_query
from cogdata.errors import CogError
from cogdata.intervals import mcnemar, wilson
from cogdata.storage.manifest import MixtureInfo
from cogdata.storage.runs import EVALUATION, read_run, status_now
from cogdata.storage.store import Store

_SCORES: Final = """
    select run, env, update, checkpoint_digest, stochastic, purpose, count(success) as episodes,
           count_if(success) as successes, max(created_at) as made
    from evaluations group by all
"""
"""Each checkpoint in each environment, for each purpose."""

_NEWEST: Final = f"""
    select * exclude (purpose, made) from ({_SCORES}) where purpose = '{EVALUATION}'
    qualify row_number() over (partition by run, env order by update desc, made desc) = 1
"""
"""The newest evaluated checkpoint of each run in each environment: what a run's success rate is."""

_RUNS: Final = f"""
    select r.run, r.algo, r.method, r.obs, r.seed, r.mixture || '@' || r.mixture_version as mixture,
           r.online ->> 'env' as online, r.status, r.updates_done, n.env, n.update, n.episodes, n.successes
    from runs r left join ({_NEWEST}) n using (run) order by r.created_at, r.run, n.env
"""

_EVALUATED: Final = f"""
    select env, update, left(checkpoint_digest, 8) as checkpoint, purpose, episodes, successes
    from ({_SCORES}) where run = '{{run}}' order by env, update, made, purpose
"""

_PAIRED: Final = f"""
    with evaluated as (
        select e.run, e.env, e.update, e.seed, e.success from evaluations e
        join ({_NEWEST}) n using (run, env, update, checkpoint_digest, stochastic)
        where e.purpose = '{EVALUATION}' and e.success is not null
    )
    select x.env, any_value(x.update) as update_a, any_value(y.update) as update_b,
           count(*) as episodes, count_if(x.success) as a, count_if(y.success) as b,
           count_if(x.success and not y.success) as only_a,
           count_if(y.success and not x.success) as only_b
    from evaluated x
    join evaluated y on x.env = y.env and x.seed = y.seed and x.run = '{{a}}' and y.run = '{{b}}'
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
    """Return a row per run and environment: what it is, how far it came, how good it is.

    ``online`` is the environment that a fine-tuned run collects in; null: it learns from its mixture alone.
    ``update`` is the newest checkpoint that was evaluated there; ``episodes``, ``success`` and ``interval``
    (95 %, Wilson) are of all its episodes with the purpose "evaluation". ``status`` is
    :func:`cogdata.storage.runs.status_now`.

    Args:
        store: Which store.
    """
    table = run_query(store, _RUNS).table
    pairs = zip(table["run"].to_pylist(), table["status"].to_pylist(), strict=True)
    status = pa.array([status_now(store, run, written) for run, written in pairs], pa.string())
    table = table.set_column(table.column_names.index("status"), "status", status)
    return _with_rates(table).drop_columns(["successes"])


def _with_rates(table: pa.Table) -> pa.Table:
    """Add the success rate and its Wilson interval to rows with ``successes`` of ``episodes``."""
    rates: list[float | None] = []
    intervals: list[list[float] | None] = []
    for won, of in zip(table["successes"].to_pylist(), table["episodes"].to_pylist(), strict=True):
        rates.append(round(won / of, 3) if of else None)
        intervals.append([round(end, 3) for end in wilson(won, of)] if of else None)
    table = table.append_column("success", pa.array(rates, pa.float64()))
    return table.append_column("interval", pa.array(intervals, pa.list_(pa.float64())))


def evaluated_table(store: Store, run: str) -> pa.Table:
    """Return a row per environment, checkpoint and purpose that a run was evaluated for.

    Args:
        store: Which store.
        run: Run id.

    Raises:
        CogError: No such run.
    """
    return _with_rates(run_query(store, _EVALUATED.format(run=read_run(store, run).run)).table)


def checkpoint_score(store: Store, run: str, digest: str, env: str) -> tuple[int, int]:
    """Return successes and episodes of all evaluations of a checkpoint in an environment.

    Args:
        store: Which store.
        run: Run id.
        digest: sha256 (hex) of the checkpoint's weights.
        env: Gymnasium id.

    Raises:
        CogError: No such run.
    """
    wanted = (env, digest[:8], EVALUATION)
    rows = evaluated_table(store, run).to_pylist()
    found = [row for row in rows if (row["env"], row["checkpoint"], row["purpose"]) == wanted]
    return sum(row["successes"] for row in found), sum(row["episodes"] for row in found)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the seeds of one environment that both were evaluated on, newest checkpoint of each.

    Attributes:
        env: Where.
        update_a: Gradient steps behind the checkpoint of the first.
        update_b: Gradient steps behind the checkpoint of the second.
        episodes: Seeds in common.
        a: Successes of the first.
        b: Successes of the second.
        only_a: Seeds on which only the first succeeded.
        only_b: Seeds on which only the second succeeded.
    """

    env: str
    update_a: int
    update_b: int
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
        raise CogError(
            f"{a} and {b} were evaluated on no common environment and seed: run `cog eval` on both"
        )
    return [Comparison(**row) for row in rows]
