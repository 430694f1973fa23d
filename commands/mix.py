"""`cog mix`: frozen mixtures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from commands.shared import (
    Format,
    Root,
    Ticker,
    countable,
    frozen_mixture,
    open_root,
    print_listing,
    root_option,
    say,
    say_copied,
    say_frozen,
    update_catalog,
)

if TYPE_CHECKING:
    from cogdata.storage.store import Store

INFER_UPDATES = 2_000


def mix_ls(format: Format = "table", root: Root = None) -> None:
    """List mixtures and their versions."""
    from catalog.output import check_format
    from catalog.summaries import mixtures_table

    check_format(format)
    empty = "no mixtures yet: freeze one with `cog query … --as NAME`, or train on one of `cog list recipes`"
    print_listing(mixtures_table(open_root(root)), format, empty)


def mix_show(
    mixture: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")], root: Root = None
) -> None:
    """Show the SQL, counts, shares and digest of a mixture."""
    from cogdata.storage.manifest import read_info

    say(read_info(open_root(root), mixture).to_json())


def mix_diff(
    a: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    b: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    root: Root = None,
) -> None:
    """Show which episodes and features differ between two mixtures, and what is frozen differently."""
    from catalog.mixtures.mixture import diff

    found = diff(open_root(root), a, b)
    for title, pairs in (
        (f"only in {found.a.ref}", found.only_a),
        (f"only in {found.b.ref}", found.only_b),
        ("in both, frozen differently", found.changed),
    ):
        say(f"{title}: {len(pairs):,} episodes")
        for source, episode in pairs[:10]:
            say(f"  {source} {episode}")
        if len(pairs) > 10:
            say(f"  and {len(pairs) - 10:,} more")
    if found.features:
        say(f"features that differ: {len(found.features)}")
    for line in found.features:
        say(f"  {line}")


def mix_refresh(
    mixture: Annotated[str, typer.Argument(help="NAME.")],
    recipe: Annotated[
        bool, typer.Option("--recipe", help="Instead of its own SQL, that of the recipe of its name.")
    ] = False,
    root: Root = None,
) -> None:
    """Freeze a mixture's SQL again; a new version if its content changed."""
    from catalog.mixtures.mixture import refresh
    from catalog.recipes import refreeze

    say_frozen((refreeze if recipe else refresh)(open_root(root), mixture))


def mix_infer(
    mixture: Annotated[str, typer.Argument(help="NAME or NAME@VERSION, or a recipe: `cog list recipes`.")],
    as_: Annotated[str, typer.Option("--as", help="Name of the new mixture.")],
    obs: Annotated[
        str, typer.Option(help="What the classifier looks at: state, image or image+robot.")
    ] = "state",
    updates: Annotated[int, typer.Option(help="Gradient updates of the classifier.")] = INFER_UPDATES,
    seed: Annotated[int, typer.Option(help="Root of its random streams.")] = 0,
    root: Root = None,
) -> None:
    """Train a success classifier on task data, reward the other sources with it, and freeze the result."""
    store = open_root(root)
    count = countable("--updates", updates)
    ref = infer_mixture(store, frozen_mixture(store, mixture), as_, obs=obs, updates=count, seed=seed)
    say(f"next: cog train --mixture {ref.partition('@')[0]}{root_option(root)}")


def infer_mixture(
    store: Store, ref: str, name: str, *, obs: str, updates: int = INFER_UPDATES, seed: int = 0
) -> str:
    """Infer the rewards of a mixture, keep the labels, freeze; returns the new one's reference."""
    from catalog.mixtures.mixture import check_name
    from catalog.mixtures.portions import check_labellable, freeze_labelled
    from cogdata.storage.manifest import read_info, read_manifest
    from trainers.training.infer import infer_rewards

    check_name(name)
    check_labellable(store, read_info(store, ref))
    ticker = Ticker()
    found = infer_rewards(
        store, read_manifest(store, ref), obs=obs, updates=updates, seed=seed,
        on_episode=lambda done, total: ticker.show(lambda: f"{done:,}/{total:,} episodes labelled"),
    )  # fmt: skip
    ticker.clear()
    path = f"labels/{name}-{found.digest[:8]}.parquet"  # other labels are another file: none is ever changed
    store.write_table(path, found.labels)
    info = freeze_labelled(store, ref, name, path)
    against = ", ".join(
        f"{name} {'–' if share is None else f'{share:.3f}'}"
        for name, share in (("precision", found.precision), ("recall", found.recall))
    )
    say(
        f"{found.labels.num_rows:,} transitions labelled, {found.found:,} rewarded; against the rewards as "
        f"collected: {against} · {info.ref}, {info.digest[:12]}"
    )
    return info.ref


def mix_copy(
    mixture: Annotated[str, typer.Argument(help="NAME or NAME@VERSION, or a recipe: `cog list recipes`.")],
    to: Annotated[str, typer.Option(help="Store to copy it to: a folder or URL.")],
    root: Root = None,
) -> None:
    """Copy a mixture and the episodes that it reads to another store, for example to train there."""
    from catalog.index.db import lock
    from cogdata.storage.manifest import read_info
    from cogdata.storage.transfer import copy_mixture

    source, target, ticker = open_root(root), open_root(to), Ticker()
    ref = read_info(source, frozen_mixture(source, mixture)).ref

    def show(done: int, total: int) -> None:
        ticker.show(lambda: f"{done:,}/{total:,} parts")

    try:
        with lock(target, "mixtures"):
            copied = copy_mixture(source, target, ref, show)
    finally:
        ticker.clear()
    say_copied(copied, target)
    update_catalog(target)
    say(f"next: cog train --mixture {ref}{root_option(target.url)}")


def mix_rm(
    mixture: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for all versions.")],
    force: Annotated[bool, typer.Option("--force", help="Even if runs were trained on it.")] = False,
    root: Root = None,
) -> None:
    """Remove a mixture; episodes stay."""
    from catalog.mixtures.mixture import remove

    for ref in remove(open_root(root), mixture, force=force):
        say(f"{ref} removed")
