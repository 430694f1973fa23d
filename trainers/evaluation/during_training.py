"""Evaluation during training: between updates, to find the best checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import torch

from cogdata.errors import CogError
from cogdata.storage.runs import SELECTION, Best, read_best, read_run, with_purpose, write_best
from cogdata.storage.store import Store
from trainers.evaluation.evaluate import (
    EvalEnv,
    Policy,
    evaluate,
    evaluation_path,
    successes,
    write_evaluation,
)


@dataclass(frozen=True)
class EvalSchedule:
    """How a run is evaluated during training.

    Attributes:
        world: Where.
        every: Updates from one evaluation to the next; the last update is evaluated too.
        seeds: Given to ``env.reset``, an episode each.
    """

    world: EvalEnv
    every: int
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.every < 1 or not self.seeds:
            raise CogError(
                f"evaluation every {self.every} updates, {len(self.seeds)} episodes: must be at least 1 each"
            )

    def due(self, update: int, updates: int) -> bool:
        """Whether a run of so many updates is evaluated after this one."""
        return update > 0 and (update % self.every == 0 or update == updates)


def parse_update(store: Store, run: str, text: str | None) -> int | None:
    """Read which checkpoint of a run is meant.

    Args:
        store: Where the run is.
        run: Run id.
        text: A number of updates, ``best``, or None: the newest.

    Raises:
        CogError: It is neither, or no checkpoint was evaluated in training.
    """
    if text is None or (text.isascii() and text.isdecimal()):
        return None if text is None else int(text)
    if text != "best":
        raise CogError(f"--update {text!r} must be a number of updates, or best")
    read_run(store, run)  # that there is none of this name is said first
    best = read_best(store, run)
    if best is None:
        raise CogError(
            f"run {run!r} has no best checkpoint: it was not evaluated during training, "
            f"see `cog train --eval-env`"
        )
    return best.update


def evaluated_before(store: Store, policy: Policy, schedule: EvalSchedule) -> Best | None:
    """What the rows of this evaluation say, if they are there; the best is made up for if it was cut off."""
    rows = _selection_rows(store, policy, schedule)
    if rows is None:
        return None
    found, best = (
        Best(policy.update, schedule.world.env, schedule.seeds, successes(rows)),
        read_best(store, policy.run),
    )
    if best is None or ((found.env, found.seeds) == (best.env, best.seeds) and found.beats(best)):
        write_best(store, policy.run, found)
    return found


def _selection_rows(store: Store, policy: Policy, schedule: EvalSchedule) -> pa.Table | None:
    """Rows of this evaluation; version 0.1 named their file as that of `cog eval` on the same seeds."""
    named = evaluation_path(policy, schedule.world, schedule.seeds, SELECTION)
    for path in (named, evaluation_path(policy, schedule.world, schedule.seeds)):
        if store.exists(path):
            rows = with_purpose(store.read_table(path))
            if path == named or SELECTION in rows["purpose"].to_pylist():
                return rows
    return None


def evaluate_checkpoint(
    store: Store, policy: Policy, schedule: EvalSchedule, stop_asked: Callable[[], bool]
) -> Best | None:
    """Evaluate a learner as it is, keep the rows, and remember it if it is the best so far.

    It acts on one thread, as ``cog eval`` lets it, so the outcomes are those that ``cog eval`` would find.

    Args:
        store: Where the run is.
        policy: The learner at a checkpoint that has been written.
        schedule: Environment and seeds.
        stop_asked: Looked at after every round of episodes.

    Returns:
        What was found, in the form of the best; None if it was cut short, nothing was kept then.
    """

    def look(done: int, total: int, _successes: int) -> None:
        if stop_asked() and done < total:
            raise _CutShortError

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        evaluation = evaluate(policy, schedule.world, schedule.seeds, on_progress=look, purpose=SELECTION)
    except _CutShortError:
        return None
    finally:
        torch.set_num_threads(threads)
    write_evaluation(store, evaluation)
    found = Best(policy.update, schedule.world.env, schedule.seeds, evaluation.successes)
    if found.beats(read_best(store, policy.run)):
        write_best(store, policy.run, found)
    return found


class _CutShortError(Exception):
    """The end was asked for in the middle of an evaluation."""
