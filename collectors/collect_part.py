"""Making the episodes of a range and committing them: as one part, or around an episode that fails.

What is finished is kept. An episode that fails ends the command (`STOP`) or is left out (`SKIP`); then the
range becomes shorter parts, and the next run of the same command tries what is missing again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cogdata.answers import OF_ERROR, shown
from cogdata.errors import CogError
from cogdata.storage.parts import Commit, PartWriter, list_parts
from cogdata.storage.store import Store
from collectors.collect import (
    CollectRequest,
    EpisodeDone,
    collect_episode,
    committed_indices,
    forget_world,
    missing_ranges,
    world_of,
)
from collectors.drivers import Driven
from collectors.provenance import part_origin

STOP: Final = "stop"
SKIP: Final = "skip"
ON_ERROR: Final = (STOP, SKIP)
"""What an episode that fails may lead to."""

MOST_IN_A_ROW: Final = 10
"""So many episodes that fail one after the other end a command that skips: the environment is broken."""


@dataclass(frozen=True)
class EpisodeFailed:
    """An episode that was left out.

    Attributes:
        index: Episode index.
        why: What failed, in one line.
    """

    index: int
    why: str


Event = EpisodeDone | EpisodeFailed | Commit


def collect_part(
    store: Store,
    asked: CollectRequest,
    span: tuple[int, int],
    on_event: Callable[[Event], None],
    stop_asked: Callable[[], bool] = lambda: False,
    on_error: str = STOP,
) -> None:
    """Run the episodes of one range and commit them.

    Args:
        store: Where to.
        asked: The request.
        span: First index and one past the last, within the same whole part.
        on_event: Called after each episode and each commit.
        stop_asked: Called before each episode; once it is true, what is done is committed as a shorter part.
        on_error: `STOP` or `SKIP`.

    Raises:
        CogError: A write failed; or an episode, and it may not be skipped: those before it are committed.
    """
    left, in_a_row = _missing(store, asked, span) if on_error == SKIP else [span], 0
    while left:
        start, stop = left.pop(0)
        reached, failed = _collect_span(store, asked, (start, stop), on_event, stop_asked)
        if failed is None and reached < stop:
            return  # the end was asked for
        if failed is None:
            in_a_row = 0
            continue
        in_a_row = in_a_row + 1 if reached == start else 1
        if on_error == STOP or in_a_row == MOST_IN_A_ROW:
            raise _ending(asked, failed, in_a_row)
        on_event(failed)
        left[:0] = [(reached + 1, stop)] if reached + 1 < stop else []


def _missing(store: Store, asked: CollectRequest, span: tuple[int, int]) -> list[tuple[int, int]]:
    """What is left of a range of which a worker that died may have committed parts."""
    have = committed_indices(list_parts(store, asked.collection))
    return missing_ranges(have, span[1], start=span[0])


def _collect_span(
    store: Store,
    asked: CollectRequest,
    span: tuple[int, int],
    on_event: Callable[[Event], None],
    stop_asked: Callable[[], bool],
) -> tuple[int, EpisodeFailed | None]:
    """Run episodes until one fails or the end is asked for, and commit them; return the index reached."""
    made_with = part_origin(asked.env, asked.localize, asked.policy)
    writer = PartWriter(store, asked.collection, *span, made_with)
    for index in range(*span):
        done, failed = None, None
        if not stop_asked():
            try:
                done = _add_episode(writer, asked, index)
            except CogError as error:
                failed = EpisodeFailed(index, str(error))
            except Exception as error:  # an environment of ours, or what it showed
                failed = EpisodeFailed(index, " ".join(f"{asked.env}: {shown(error, OF_ERROR)}".split()))
        if done is None:
            if index > span[0]:
                on_event(writer.commit(short=True))
            if failed is not None:  # last: closing what has failed may hang, or end this process
                try:
                    forget_world(asked)
                except CogError as error:
                    raise CogError(f"episode {index} failed: {failed.why}; {error}") from None
            return index, failed
        on_event(done)
    on_event(writer.commit())
    return span[1], None


def _add_episode(writer: PartWriter, asked: CollectRequest, index: int) -> EpisodeDone:
    episode = collect_episode(asked, index)
    writer.add(episode)
    world = world_of(asked)
    unstored = tuple(sorted(world.unstored)) if isinstance(world, Driven) else ()
    return EpisodeDone(index, episode.steps, episode.success, episode.solved, unstored)


def _ending(asked: CollectRequest, failed: EpisodeFailed, in_a_row: int) -> CogError:
    said = f"episode {failed.index} of {asked.collection} failed: {failed.why}"
    if in_a_row == MOST_IN_A_ROW:
        return CogError(f"{in_a_row} episodes in a row failed, the last: {said}")
    return CogError(f"{said}; what was finished is kept, --on-error skip leaves such episodes out")
