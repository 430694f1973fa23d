"""`cog query` and `cog show`: SQL over the catalog, mixtures frozen from it, episodes as pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.errors import CogError
from commands.shared import (
    Format,
    Root,
    check_scale,
    listed,
    note,
    note_unread,
    open_root,
    pairs,
    say_frozen,
    write_picture,
)

if TYPE_CHECKING:
    from cogdata.storage.selection import Selection
    from cogdata.storage.store import Store


def query_command(
    sql: Annotated[str | None, typer.Argument(help="One reading statement of DuckDB's SQL.")] = None,
    file: Annotated[Path | None, typer.Option("-f", "--file", help="Read the SQL from a file.")] = None,
    format: Format = "table",
    limit: Annotated[int | None, typer.Option(help="Most rows to print.")] = None,
    name: Annotated[
        str | None, typer.Option("--as", help="Freeze the result as a mixture of this name.")
    ] = None,
    weight: Annotated[list[str] | None, typer.Option(help="SOURCE=SHARE of every batch; with --as.")] = None,
    allow_overlap: Annotated[
        bool, typer.Option("--allow-overlap", help="An episode may be in two sources.")
    ] = False,
    features: Annotated[
        str | None,
        typer.Option(
            help="Features of the mixture, image,robot; else all that its episodes share.", show_default=False
        ),
    ] = None,
    rename: Annotated[
        list[str] | None, typer.Option(help="OLD=NEW name of a feature, with --as.", show_default=False)
    ] = None,
    resize: Annotated[
        list[str] | None, typer.Option(help="CAMERA=HxW px, with --as.", show_default=False)
    ] = None,
    pad: Annotated[
        list[str] | None,
        typer.Option(
            help="VECTOR=SIZE that shorter ones are padded to with zeros, with --as.", show_default=False
        ),
    ] = None,
    stats_by: Annotated[
        str,
        typer.Option(
            help="Column of episodes, or source, that tells robots apart, for statistics of each; with --as.",
            show_default=False,
        ),
    ] = "",
    transform: Annotated[
        list[str] | None,
        typer.Option(
            help="action=delta:OBSERVATION: the action minus that observation; else absolute. With --as.",
            show_default=False,
        ),
    ] = None,
    root: Root = None,
) -> None:
    """Ask the catalog in SQL (views: episodes, steps, features, layers, collections, parts,
    mixtures, mixture_episodes, runs, evaluations); with --as, freeze the answer as a mixture."""  # noqa: D205, D209
    text = _sql(sql, file)
    store = open_root(root)
    selection = _selection(features, rename, resize, pad, stats_by, transform)
    if name is None:
        if weight or allow_overlap or transform or not selection.is_default:
            raise CogError(
                "--weight, --allow-overlap, --features, --rename, --resize, --pad, --stats-by and "
                "--transform say how to freeze a mixture: add --as NAME"
            )
        _print_query(store, text, format, limit)
        return
    if limit is not None or format != "table":
        raise CogError("--as freezes the whole result: leave --limit and --format out")
    from catalog.index.sync import list_unread
    from catalog.mixtures.mixture import freeze

    weights = _weights(weight or [])
    say_frozen(freeze(store, name, text, weights=weights, allow_overlap=allow_overlap, selection=selection))
    note_unread(list_unread(store))


def _sql(sql: str | None, file: Path | None) -> str:
    if (sql is None) == (file is None):
        raise CogError(
            'give the SQL as an argument, or a file with -f: cog query "select count(*) from episodes"'
        )
    if file is None:
        return sql or ""
    try:
        return file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise CogError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from None


def _selection(
    features: str | None,
    rename: list[str] | None,
    resize: list[str] | None,
    pad: list[str] | None,
    stats_by: str,
    transform: list[str] | None,
) -> Selection:
    """What a mixture takes of its episodes, as it was typed."""
    from cogdata.storage.selection import Selection

    sizes: dict[str, tuple[int, int]] = {}
    for name, text in pairs("--resize", resize, "image=64x64").items():
        height, _, width = text.partition("x")
        if not (height.isdecimal() and width.isdecimal()):
            raise CogError(f"--resize {name}={text} must be CAMERA=HEIGHTxWIDTH, for example image=64x64")
        sizes[name] = int(height), int(width)
    padded: dict[str, int] = {}
    for name, text in pairs("--pad", pad, "action=14").items():
        if not text.isdecimal():
            raise CogError(f"--pad {name}={text} must be VECTOR=SIZE, for example action=14")
        padded[name] = int(text)
    take = None if features is None else tuple(listed(features))
    renamed = pairs("--rename", rename, "cam_high=image")
    transforms = pairs("--transform", transform, "action=delta:joints_rad")
    return Selection(take, renamed, sizes, padded, stats_by.strip(), transforms)


def _weights(texts: list[str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for text in texts:
        source, _, share = text.partition("=")
        if source in weights:
            raise CogError(f"--weight names source {source!r} twice: say it once")
        try:
            weights[source] = float(share)
        except ValueError:
            raise CogError(
                f"--weight {text!r} must be SOURCE=SHARE, for example --weight prior=0.5"
            ) from None
    return weights


def _print_query(store: Store, sql: str, format: str, limit: int | None) -> None:
    from catalog.output import check_format, write_result
    from catalog.query import run_query

    check_format(format)
    result = run_query(store, sql, limit=limit)
    write_result(result.table, format, sys.stdout.buffer)
    if result.more:
        note(f"the first {limit} rows; there are more")
    note_unread(result.unread)


def show_command(
    episode: Annotated[str, typer.Argument(help="An episode_id, or a query that yields episode_id.")],
    out: Annotated[
        Path, typer.Option(help="Folder, or one file: .png for the sheet, .webp for the animation.")
    ] = Path(),
    scale: Annotated[
        int | None, typer.Option(help="Enlargement; else about 144 px a frame.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Most episodes of a query to draw.")] = 5,
    features: Annotated[
        str | None,
        typer.Option(
            help="Features to draw, for example image,robot; else every camera.", show_default=False
        ),
    ] = None,
    root: Root = None,
) -> None:
    """Draw an episode, a sheet (PNG) and an animation (WebP), with predicates, phases and rewards."""
    from catalog.episodes import find_episodes
    from cogdata.storage.samples import read_episode

    single = out.suffix.lower() in (".png", ".webp")
    if out.suffix and not single and not out.is_dir():
        raise CogError(f"--out {out} must be a folder, or end with .png or .webp")
    check_scale(scale)
    names = listed(features)
    store = open_root(root)
    rows, more = find_episodes(store, episode, limit)
    if single and len(rows) > 1:
        raise CogError(f"--out {out} is one file, the query yields {len(rows)} episodes: name a folder")
    for row in rows:
        stem = out / row["episode_id"].replace("/", "-")
        files = [out] if single else [stem.with_name(f"{stem.name}{kind}") for kind in (".png", ".webp")]
        _draw(read_episode(store, row), files, names, scale)
    if more:
        note(f"drawn: the first {limit}; there are more episodes, see --limit")


def _draw(episode: Any, files: list[Path], features: list[str], scale: int | None) -> None:  # noqa: ANN401 - an Episode, lazily
    from cogdata.display.cameras import pictures
    from cogdata.display.captions import episode_animation, episode_sheet
    from cogdata.display.images import animated_webp, png

    for file in files:
        if file.suffix.lower() == ".png":
            write_picture(file, png(episode_sheet(episode, pictures(episode, features, 144, scale))))
        else:
            drawn = episode_animation(episode, pictures(episode, features, 288, scale))
            write_picture(file, animated_webp(drawn, min(episode.spec.rate_hz or 10.0, 50.0)))
