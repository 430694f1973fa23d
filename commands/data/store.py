"""`cog data`: what the store holds, and whether it is whole."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cogdata.errors import CogError
from commands.shared import (
    Format,
    Root,
    Ticker,
    check_scale,
    listed,
    note,
    note_unread,
    open_root,
    print_listing,
    say,
    write_picture,
)

if TYPE_CHECKING:
    from catalog.agreement import Problem
    from cogdata.storage.store import Store


def data_ls(format: Format = "table", root: Root = None) -> None:
    """List the collections."""
    from catalog.index.sync import list_unread
    from catalog.output import check_format
    from catalog.summaries import collections_table

    check_format(format)
    empty = "the store is empty: start with `cog collect --policy weak_grasp --episodes 100`"
    store = open_root(root)
    print_listing(collections_table(store), format, empty)
    note_unread(list_unread(store))


def data_info(
    collection: Annotated[str, typer.Argument(help="Name, as `cog data ls` prints it.")], root: Root = None
) -> None:
    """Show where a collection comes from and what it holds."""
    from cogdata.storage.collections import read_collection
    from collectors.collect import committed

    store = open_root(root)
    info = read_collection(store, collection)
    commits = committed(store, collection).values()
    say(json.dumps(vars(info), indent=2, default=str))
    frames, size = sum(c.frames for c in commits), sum(c.bytes for c in commits)
    say(
        f"{sum(c.episodes for c in commits):,} episodes in {len(commits)} parts, "
        f"{sum(c.steps for c in commits):,} steps, {size / 1e6:.1f} MB"
        + (f", {size / frames:.0f} bytes per frame" if frames else "")
    )


def data_verify(root: Root = None) -> None:
    """Check every committed byte, digest and reference; exit 1 if something is wrong."""
    from catalog.doctor import verify

    ticker, store = Ticker(), open_root(root)
    problems = verify(store, lambda done, total: ticker.show(lambda: f"{done}/{total} checked"))
    ticker.clear()
    said = {problem.where for problem in problems}
    problems += [problem for problem in _misnamed(store) if problem.where not in said]
    for problem in problems:
        say(str(problem))
    if problems:
        raise CogError(f"{len(problems)} problem{'s' if len(problems) > 1 else ''} found")
    say("everything is whole")


def _misnamed(store: Store) -> list[Problem]:
    """Collections whose settings are not those that their name was made from."""
    from catalog.agreement import Problem
    from cogdata.storage.collections import list_collections, read_collection
    from collectors.collect import CollectRequest

    problems = []
    for name in list_collections(store):
        with contextlib.suppress(CogError):  # damaged, which has been said; or a policy of another version
            info = read_collection(store, name)
            meant = CollectRequest(**info.settings()).collection
            if meant != name:
                what = f"says settings that are named {meant}: remove it and run the same `cog collect` again"
                problems.append(Problem(f"collections/{name}/collection.json", what))
    return problems


def data_rebuild(root: Root = None) -> None:
    """Make the catalog anew from the files."""
    from catalog.index.sync import rebuild

    report = rebuild(open_root(root))
    counts = [f"{count:,} {kind}{'s' if count != 1 else ''}" for kind, count in report.added.items()]
    say("catalog rebuilt: " + ", ".join(counts))
    for problem in report.problems:
        note(f"warning: {problem}")


def data_sheet(
    episodes: Annotated[str, typer.Argument(help="A query that yields episode_id, or an episode_id.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    columns: Annotated[int, typer.Option(help="Episodes in a row.")] = 4,
    limit: Annotated[int, typer.Option(help="Most episodes to draw.")] = 40,
    scale: Annotated[
        int | None, typer.Option(help="Enlargement; else about 96 px a frame.", show_default=False)
    ] = None,
    features: Annotated[
        str | None,
        typer.Option(
            help="Features to draw, for example image,robot; else every camera.", show_default=False
        ),
    ] = None,
    root: Root = None,
) -> None:
    """Draw first, middle and last frame of many episodes on one page."""
    from catalog.episodes import find_episodes
    from cogdata.display.cameras import pictures
    from cogdata.display.captions import OverviewEntry, overview
    from cogdata.display.images import png
    from cogdata.storage.samples import read_episode

    if out.suffix.lower() != ".png":
        raise CogError(f"--out {out} must end with .png")
    if not 1 <= columns <= 20:
        raise CogError(f"--columns is {columns}, must be from 1 to 20")
    if not 1 <= limit <= 1000:
        raise CogError(f"--limit is {limit}, must be from 1 to 1000")
    check_scale(scale)
    store = open_root(root)
    rows, more = find_episodes(store, episodes, limit)
    names, episodes_read = listed(features), (read_episode(store, row) for row in rows)
    entries = [OverviewEntry.of(one, pictures(one, names, 96, scale)) for one in episodes_read]
    write_picture(out, png(overview(entries, columns)))
    if more:
        note(f"drawn: the first {limit}; there are more episodes, see --limit")
