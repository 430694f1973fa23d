"""The command line: composes the packages, prints, and turns every bad input into one clear line."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cogdata.commands import answer_ctrl_c
from cogdata.errors import CogError, unknown

if TYPE_CHECKING:
    from catalog.doctor import Problem
    from cogdata.cluster import Cluster
    from cogdata.manifest import Manifest
    from cogdata.runs import RunInfo
    from cogdata.store import Store
    from cogdata.stream import Stream, StreamOptions
    from collectors.engines import Engine
    from trainers.benchmark import Unit
    from trainers.evaluate import World
    from trainers.finetune import FinetuneProgress, Surroundings
    from trainers.judge import Judging
    from trainers.online import Arena
    from trainers.ranks import Ranks
    from trainers.reproduce import Trials
    from trainers.request import TrainRequest
    from trainers.results import Result
    from trainers.settings import TrainSettings

app = typer.Typer(
    name="cog",
    help="Robot-learning data made usable: collect, query, mix, train, judge; all of it in reach of SQL.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
data_app = typer.Typer(help="What the store holds, and whether it is whole.", no_args_is_help=True)
mix_app = typer.Typer(
    help="Frozen mixtures: list, show, compare, freeze again, remove.", no_args_is_help=True
)
runs_app = typer.Typer(help="Training runs and their evaluations.", no_args_is_help=True)
app.add_typer(data_app, name="data")
app.add_typer(mix_app, name="mix")
app.add_typer(runs_app, name="runs")

Root = Annotated[
    str | None, typer.Option("--root", help="Store: a folder or URL; else $COG_ROOT, else ./cog-store")
]
Format = Annotated[str, typer.Option(help="table, json, jsonl, csv or parquet.")]
Seed = Annotated[int, typer.Option(help="Root of every random stream.")]
EngineName = Annotated[str, typer.Option("--engine", help="local: this machine; ray: a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster, HOST:PORT or auto; else $RAY_ADDRESS, else one of its own.")
]

INTERRUPTED = 130
MOST_EPISODES = 1_000_000
INFER_STEPS = 2_000

SYNC_PAUSE_S = 2.0
"""Least time between two syncs while episodes arrive; a sync that takes long is made less often."""


def _version(asked: bool) -> None:
    if asked:
        import cogdata

        say(f"cogdata {cogdata.__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and leave.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """What `cog` takes before a command."""


# --- printing --------------------------------------------------------------------------------------------


def say(text: str = "") -> None:
    """Print a result line on stdout."""
    typer.echo(text)


def note(text: str) -> None:
    """Print a remark on stderr, where it cannot end up in a result."""
    typer.echo(text, err=True)


class Ticker:
    """One live line on a terminal; on a pipe or in a log a line every ``every`` seconds."""

    def __init__(self, every: float = 10.0) -> None:
        self._live = sys.stderr.isatty()
        self._every = 0.2 if self._live else every
        self._next = time.monotonic() + (0 if self._live else every)

    def show(self, text: Callable[[], str]) -> None:
        """Show a line if it is time to."""
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + self._every
        typer.echo(f"\r\x1b[2K{text()}" if self._live else text(), nl=not self._live, err=True)

    def clear(self) -> None:
        """Leave the terminal line empty for what comes next."""
        if self._live:
            typer.echo("\r\x1b[2K", nl=False, err=True)


def _store(root: str | None) -> Store:
    from cogdata.store import open_store

    return open_store(root)


# --- collect ---------------------------------------------------------------------------------------------


@app.command("collect")
def collect_command(
    policy: Annotated[str | None, typer.Option(help="Who acts: see `cog list policies`.")] = None,
    episodes: Annotated[int | None, typer.Option(help="How many the collection shall hold in all.")] = None,
    env: Annotated[
        str | None,
        typer.Option(help="Where: see `cog list envs`, or module:Class of yours; else the policy's own."),
    ] = None,
    seed: Seed = 0,
    noise: Annotated[float, typer.Option(help="Standard deviation of the action noise.")] = 0.2,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    image_size: Annotated[int, typer.Option(help="px, square.")] = 48,
    horizon: Annotated[
        int | None, typer.Option(help="Actions per episode; else the policy's, or yours if they are fewer.")
    ] = None,
    localize: Annotated[
        str, typer.Option(help="Who says where movable things are: simulator or camera.")
    ] = "simulator",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    recipe: Annotated[
        str | None, typer.Option("--for", help="Collect all that a recipe needs: see `cog list recipes`.")
    ] = None,
    scale: Annotated[
        float | None, typer.Option(help="Fraction of the paper's episodes; with --for.", show_default="1")
    ] = None,
    engine: EngineName = "local",
    address: Address = None,
    root: Root = None,
) -> None:
    """Let a scripted policy act and store its episodes. The same command again adds only what is missing."""
    from collectors.checks import check_env
    from collectors.collect import plan, request
    from collectors.drivers import is_driver

    wanted = _wanted(policy, env, episodes, recipe, scale)
    asked = [
        (
            request(
                who,
                env=where,
                noise=noise,
                root_seed=seed,
                image_size=image_size,
                horizon=horizon,
                localize=localize,
            ),
            many,
        )
        for who, where, many in wanted
    ]
    on_ray = _on_ray(engine, address, *(one.env for one, _ in asked))
    store = _store(root)
    missing = 0
    for one, many in asked:
        count = _workers(workers, one_robot=is_driver(one.env))
        planned = plan(store, one, many)
        missing += planned.missing
        if planned.missing and not (dry_run and is_driver(one.env)):  # a dry run moves no robot
            check_env(one.env, image_size=one.image_size, policy=one.policy, localize=one.localize)
        say(
            f"{one.collection}: {one.policy} in {one.env}, {planned.episodes} episodes wanted, "
            f"{planned.have} there, {planned.missing} to collect in {len(planned.ranges)} parts "
            + ("on Ray" if on_ray else f"with {count} workers")
        )
        if not dry_run:
            _collect(store, planned, _ray_engine(address, workers) if on_ray else _local_engine(count))
    if recipe is not None:
        say(f"{missing:,} episodes to collect" if dry_run else f"next: cog train --mixture {recipe}")


def _wanted(
    policy: str | None, env: str | None, episodes: int | None, recipe: str | None, scale: float | None
) -> list[tuple[str, str | None, int]]:
    """Policy, environment (None: the policy's own) and number of episodes of every collection asked for."""
    if recipe is None:
        if scale is not None:
            raise CogError("--scale is a fraction of what a recipe needs: add --for RECIPE")
        if policy is None or episodes is None:
            raise CogError(
                "say who acts and how many episodes, for example `cog collect --policy weak_grasp --episodes "
                "2000`, or what for: `cog collect --for place_in_tray`"
            )
        return [(policy, env, episodes)]
    if any(value is not None for value in (policy, env, episodes)):
        raise CogError("--for collects what the recipe needs: leave --policy, --env and --episodes out")
    from catalog.recipes import find_recipe

    if scale is not None:
        _check_fraction(scale)
    needs = find_recipe(recipe).needs
    return [(need.policy, need.env, need.scaled(1.0 if scale is None else scale)) for need in needs]


def _check_fraction(scale: float) -> None:
    if not 0 < scale <= 10:
        raise CogError(f"--scale is {scale:g}, must be more than 0 and at most 10; 1 is the paper's number")


def _workers(text: str, *, one_robot: bool = False, option: str = "--workers") -> int:
    from cogdata.machine import usable_cores

    if text == "auto":
        return 1 if one_robot else usable_cores()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise CogError(f"{option} is {text}, must be a whole number of at least 1, or auto")
    return count


def _on_ray(engine: str, address: str | None, *envs: str) -> bool:
    from collectors.drivers import is_driver

    if engine not in ("local", "ray"):
        raise unknown("engine", engine, ("local", "ray"))
    if address is not None and engine != "ray":
        raise CogError("--address names a Ray cluster: add --engine ray")
    if engine == "ray" and (robots := [env for env in envs if is_driver(env)]):
        raise CogError(f"{robots[0]} is a robot at this machine: leave --engine ray out")
    return engine == "ray"


def _ray_engine(address: str | None, workers: str) -> Engine:
    from collectors.engines import RayEngine

    return RayEngine(address, None if workers == "auto" else _workers(workers))


def _local_engine(workers: int) -> Engine:
    from collectors.engines import LocalEngine

    return LocalEngine(workers)


@contextlib.contextmanager
def _ending_on_request(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
    """Call ``stop`` at the first Ctrl-C or SIGTERM; the second is a KeyboardInterrupt.

    Args:
        stop: Safe in a signal handler.

    Yields:
        Whether the end was asked for.
    """
    asked = False

    def handle(*_: object) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()
        os.write(
            2, b"\nstopping: what is done is committed; Ctrl-C again stops at once\n"
        )  # echo may be in use

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _collect(store: Store, planned: Any, engine: Engine) -> None:  # noqa: ANN401 - a Plan, imported lazily
    from catalog.sync import try_sync
    from cogdata.parts import Commit
    from collectors.collect import prepare
    from collectors.provenance import changed_since
    from collectors.tally import Tally

    info = prepare(store, planned.asked, shlex.join(["cog", *sys.argv[1:]]))
    if planned.missing and (changed := changed_since(info)):
        note(f"warning: {changed}")
    tally, ticker, warned, sync_at = Tally(planned), Ticker(), False, time.monotonic() + SYNC_PAUSE_S
    try:
        with _ending_on_request(engine.stop) as ending:
            for event in engine(store, planned.asked, planned.ranges):
                tally.add(event)
                ticker.show(tally.line)
                if not warned and (warning := tally.warning(info)):
                    ticker.clear()
                    note(f"warning: {warning}")
                    warned = True
                if isinstance(event, Commit) and (began := time.monotonic()) > sync_at and not ending():
                    with contextlib.suppress(
                        CogError
                    ):  # the episodes are safe; the last sync says what is wrong
                        try_sync(store)
                    sync_at = time.monotonic() + max(SYNC_PAUSE_S, 20 * (time.monotonic() - began))
        stopped = ending()
    except KeyboardInterrupt:
        stopped = True
    finally:
        ticker.clear()
    try_sync(store)
    if stopped:
        have = planned.have + tally.committed
        rest = "; run the same command again to collect the rest" if have < planned.episodes else ""
        note(f"stopped: {have} of {planned.episodes} episodes of {info.name} are in the store{rest}")
        raise typer.Exit(INTERRUPTED)
    if planned.missing:
        say(f"{tally.line()} · {tally.seconds:.1f} s")


# --- list ------------------------------------------------------------------------------------------------


@app.command("list")
def list_command(
    what: Annotated[str, typer.Argument(help="policies, envs, algorithms, methods, recipes or variations.")],
) -> None:
    """List what there is by name, with a line of help each."""
    tables = {
        "policies": _policies,
        "envs": _envs,
        "algorithms": _algorithms,
        "methods": _methods,
        "recipes": _recipes,
        "variations": _variations,
    }
    if what not in tables:
        raise unknown("list", what, tables)
    rows = tables[what]()
    width = max(len(name) for name, _ in rows)
    for name, text in rows:
        say(f"{name:<{width}}  {text}")


def _policies() -> list[tuple[str, str]]:
    from collectors.policies import POLICIES

    return [
        (
            name,
            f"{spec.help} [{spec.default_env}, {spec.success_range[0]:.0%} to {spec.success_range[1]:.0%}]",
        )
        for name, spec in POLICIES.items()
    ]


def _envs() -> list[tuple[str, str]]:
    from collectors.envs import ENVS

    return [(name, f"{spec.help} [horizon {spec.horizon}]") for name, spec in ENVS.items()]


def _algorithms() -> list[tuple[str, str]]:
    from trainers.algos import ALGORITHMS

    return [(name, (kind.__doc__ or "").strip().splitlines()[0]) for name, kind in ALGORITHMS.items()]


def _methods() -> list[tuple[str, str]]:
    from trainers.methods import METHODS

    return [(name, method.summary) for name, method in METHODS.items()]


def _recipes() -> list[tuple[str, str]]:
    from catalog.recipes import RECIPES

    return [(name, recipe.summary) for name, recipe in RECIPES.items()]


def _variations() -> list[tuple[str, str]]:
    from trainers.benchmark import VARIATIONS

    return [(name, f"{one.summary} [{one.task}]") for name, one in VARIATIONS.items()]


# --- query -----------------------------------------------------------------------------------------------


@app.command("query")
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
    root: Root = None,
) -> None:
    """Ask the catalog in SQL (views: episodes, steps, collections, parts, mixtures, mixture_episodes, runs,
    evaluations); with --as, freeze the answer as a mixture."""  # noqa: D205, D209
    text = _sql(sql, file)
    store = _store(root)
    if name is None:
        if weight or allow_overlap:
            raise CogError("--weight and --allow-overlap say how to freeze a mixture: add --as NAME")
        _print_query(store, text, format, limit)
        return
    if limit is not None or format != "table":
        raise CogError("--as freezes the whole result: leave --limit and --format out")
    from catalog.mixture import freeze

    _say_frozen(freeze(store, name, text, weights=_weights(weight or []), allow_overlap=allow_overlap))


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


def _print_table(table: Any) -> None:  # noqa: ANN401 - a pyarrow table, imported lazily
    _print_listing(table, "table", "")


def _print_listing(table: Any, format: str, empty: str) -> None:  # noqa: ANN401 - a pyarrow table, lazily
    """Print rows; if there are none, say so where it is not taken for a row."""
    from catalog.output import write_result

    if not table.num_rows and empty:
        note(empty)
    if table.num_rows or format != "table" or not empty:
        write_result(table, format, sys.stdout.buffer)


def _say_frozen(report: Any) -> None:  # noqa: ANN401 - a FreezeReport, imported lazily
    info = report.info
    say(
        f"{info.ref} {'frozen' if report.created else 'has this content already'} · digest {info.digest[:12]}"
    )
    if report.moved:
        say(f"  {report.moved:,} episodes were collected again elsewhere and are found there now")
    for source, counts in sorted(info.counts.items()):
        share = f" · {info.weights[source]:.1%} of every batch" if info.weights else ""
        say(
            f"  {source}: {counts.episodes:,} episodes, {counts.transitions:,} transitions, rewarded "
            f"{counts.rewarded_before:,} as collected, {counts.rewarded_after:,} as frozen{share}"
        )


# --- show ------------------------------------------------------------------------------------------------


@app.command("show")
def show_command(
    episode: Annotated[str, typer.Argument(help="An episode_id, or a query that yields episode_id.")],
    out: Annotated[
        Path, typer.Option(help="Folder, or one file: .png for the sheet, .webp for the animation.")
    ] = Path(),
    scale: Annotated[
        int | None, typer.Option(help="Enlargement; else about 144 px a frame.", show_default=False)
    ] = None,
    limit: Annotated[int, typer.Option(help="Most episodes of a query to draw.")] = 5,
    root: Root = None,
) -> None:
    """Draw an episode, a sheet (PNG) and an animation (WebP), with predicates, phases and rewards."""
    from catalog.episodes import find_episodes
    from cogdata.samples import read_episode

    single = out.suffix.lower() in (".png", ".webp")
    if out.suffix and not single and not out.is_dir():
        raise CogError(f"--out {out} must be a folder, or end with .png or .webp")
    _check_scale(scale)
    store = _store(root)
    rows, more = find_episodes(store, episode, limit)
    if single and len(rows) > 1:
        raise CogError(f"--out {out} is one file, the query yields {len(rows)} episodes: name a folder")
    for row in rows:
        stem = out / row["episode_id"].replace("/", "-")
        files = [out] if single else [stem.with_name(f"{stem.name}{kind}") for kind in (".png", ".webp")]
        _draw(read_episode(store, row), files, scale)
    if more:
        note(f"drawn: the first {limit}; there are more episodes, see --limit")


def _check_scale(scale: int | None) -> None:
    if scale is not None and not 1 <= scale <= 16:
        raise CogError(f"--scale is {scale}, must be from 1 to 16: how often a pixel is repeated")


def _draw(episode: Any, files: list[Path], scale: int | None) -> None:  # noqa: ANN401 - an Episode, lazily
    from cogdata.captions import default_factor, episode_animation, episode_sheet
    from cogdata.pictures import animated_webp, png

    size = episode.image.shape[2]
    for file in files:
        if file.suffix.lower() == ".png":
            _write_picture(file, png(episode_sheet(episode, scale or default_factor(size, 144))))
        else:
            pictures = episode_animation(episode, scale or default_factor(size, 288))
            _write_picture(file, animated_webp(pictures))


def _write_picture(file: Path, data: bytes) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise CogError(f"cannot write {file} ({error.strerror or error}): name another with --out") from None
    say(str(file))


# --- data ------------------------------------------------------------------------------------------------


@data_app.command("ls")
def data_ls(format: Format = "table", root: Root = None) -> None:
    """List the collections."""
    from catalog.output import check_format
    from catalog.summaries import collections_table

    check_format(format)
    empty = "the store is empty: start with `cog collect --policy weak_grasp --episodes 100`"
    _print_listing(collections_table(_store(root)), format, empty)


@data_app.command("info")
def data_info(
    collection: Annotated[str, typer.Argument(help="Name, as `cog data ls` prints it.")], root: Root = None
) -> None:
    """Show where a collection comes from and what it holds."""
    from cogdata.parts import read_collection
    from collectors.collect import committed

    store = _store(root)
    info = read_collection(store, collection)
    commits = committed(store, collection).values()
    say(json.dumps(vars(info), indent=2, default=str))
    frames, size = sum(c.frames for c in commits), sum(c.bytes for c in commits)
    say(
        f"{sum(c.episodes for c in commits):,} episodes in {len(commits)} parts, "
        f"{sum(c.steps for c in commits):,} steps, {size / 1e6:.1f} MB"
        + (f", {size / frames:.0f} bytes per frame" if frames else "")
    )


@data_app.command("verify")
def data_verify(root: Root = None) -> None:
    """Check every committed byte, digest and reference; exit 1 if something is wrong."""
    from catalog.doctor import verify

    ticker, store = Ticker(), _store(root)
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
    from catalog.doctor import Problem
    from cogdata.parts import list_collections, read_collection
    from collectors.collect import request

    problems = []
    for name in list_collections(store):
        with contextlib.suppress(CogError):  # damaged, which has been said; or a policy of another version
            info = read_collection(store, name)
            meant = request(
                info.policy,
                env=info.env,
                noise=info.noise,
                root_seed=info.root_seed,
                image_size=info.image_size,
                horizon=info.horizon,
                localize=info.localize,
            ).collection
            if meant != name:
                what = f"says settings that are named {meant}: remove it and run the same `cog collect` again"
                problems.append(Problem(f"collections/{name}/collection.json", what))
    return problems


@data_app.command("rebuild")
def data_rebuild(root: Root = None) -> None:
    """Make the catalog anew from the files."""
    from catalog.sync import rebuild

    report = rebuild(_store(root))
    counts = [f"{count:,} {kind}{'s' if count != 1 else ''}" for kind, count in report.added.items()]
    say("catalog rebuilt: " + ", ".join(counts))
    for problem in report.problems:
        note(f"warning: {problem}")


@data_app.command("sheet")
def data_sheet(
    episodes: Annotated[str, typer.Argument(help="A query that yields episode_id, or an episode_id.")],
    out: Annotated[Path, typer.Option(help="PNG to write.")] = Path("sheet.png"),
    columns: Annotated[int, typer.Option(help="Episodes in a row.")] = 4,
    limit: Annotated[int, typer.Option(help="Most episodes to draw.")] = 40,
    scale: Annotated[
        int | None, typer.Option(help="Enlargement; else about 96 px a frame.", show_default=False)
    ] = None,
    root: Root = None,
) -> None:
    """Draw first, middle and last frame of many episodes on one page."""
    from catalog.episodes import find_episodes
    from cogdata.captions import Entry, default_factor, overview
    from cogdata.pictures import png
    from cogdata.samples import read_episode

    if out.suffix.lower() != ".png":
        raise CogError(f"--out {out} must end with .png")
    if not 1 <= columns <= 20:
        raise CogError(f"--columns is {columns}, must be from 1 to 20")
    if not 1 <= limit <= 1000:
        raise CogError(f"--limit is {limit}, must be from 1 to 1000")
    _check_scale(scale)
    store = _store(root)
    rows, more = find_episodes(store, episodes, limit)
    entries = [Entry.of(read_episode(store, row)) for row in rows]
    page = overview(entries, scale or default_factor(entries[0].frames.shape[2], 96), columns)
    _write_picture(out, png(page))
    if more:
        note(f"drawn: the first {limit}; there are more episodes, see --limit")


# --- mix -------------------------------------------------------------------------------------------------


@mix_app.command("ls")
def mix_ls(format: Format = "table", root: Root = None) -> None:
    """List mixtures and their versions."""
    from catalog.output import check_format
    from catalog.summaries import mixtures_table

    check_format(format)
    empty = "no mixtures yet: freeze one with `cog query … --as NAME`, or train on one of `cog list recipes`"
    _print_listing(mixtures_table(_store(root)), format, empty)


@mix_app.command("show")
def mix_show(
    mixture: Annotated[str, typer.Argument(help="NAME or NAME@VERSION.")], root: Root = None
) -> None:
    """Show the SQL, counts, shares and digest of a mixture."""
    from cogdata.manifest import read_info

    say(read_info(_store(root), mixture).to_json())


@mix_app.command("diff")
def mix_diff(
    a: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    b: Annotated[str, typer.Argument(help="NAME@VERSION.")],
    root: Root = None,
) -> None:
    """Show which episodes differ between two mixtures, or are frozen differently."""
    from catalog.mixture import diff

    found = diff(_store(root), a, b)
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


@mix_app.command("refresh")
def mix_refresh(mixture: Annotated[str, typer.Argument(help="NAME.")], root: Root = None) -> None:
    """Freeze a mixture's SQL again; a new version if its content changed."""
    from catalog.mixture import refresh

    _say_frozen(refresh(_store(root), mixture))


@mix_app.command("infer")
def mix_infer(
    mixture: Annotated[str, typer.Argument(help="NAME or NAME@VERSION, or a recipe: `cog list recipes`.")],
    as_: Annotated[str, typer.Option("--as", help="Name of the new mixture.")],
    obs: Annotated[
        str, typer.Option(help="What the classifier looks at: state, image or image+robot.")
    ] = "state",
    steps: Annotated[int, typer.Option(help="Gradient updates of the classifier.")] = INFER_STEPS,
    seed: Annotated[int, typer.Option(help="Root of its random streams.")] = 0,
    root: Root = None,
) -> None:
    """Reward all but the task data as a success classifier says that learned from these; freeze that."""
    store = _store(root)
    ref = _infer(store, _mixture(store, mixture), as_, obs=obs, steps=_countable("--steps", steps), seed=seed)
    say(f"next: cog train --mixture {ref.partition('@')[0]}")


def _infer(store: Store, ref: str, name: str, *, obs: str, steps: int = INFER_STEPS, seed: int = 0) -> str:
    """Infer the rewards of a mixture, keep the labels, freeze; returns the new one's reference."""
    from catalog.mixture import check_name
    from catalog.portions import check_labellable, freeze_labelled
    from cogdata.manifest import read_info, read_manifest
    from trainers.infer import infer_rewards

    check_name(name)
    check_labellable(store, read_info(store, ref))
    ticker = Ticker()
    found = infer_rewards(
        store, read_manifest(store, ref), obs=obs, updates=steps, seed=seed,
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


@mix_app.command("rm")
def mix_rm(
    mixture: Annotated[str, typer.Argument(help="NAME@VERSION, or NAME for all versions.")],
    force: Annotated[bool, typer.Option("--force", help="Even if runs were trained on it.")] = False,
    root: Root = None,
) -> None:
    """Remove a mixture; episodes stay."""
    from catalog.mixture import remove

    for ref in remove(_store(root), mixture, force=force):
        say(f"{ref} removed")


# --- train -----------------------------------------------------------------------------------------------


@app.command("train")
def train_command(
    mixture: Annotated[
        str | None, typer.Option(help="NAME or NAME@VERSION, or a recipe: `cog list recipes`.")
    ] = None,
    algo: Annotated[str | None, typer.Option(help="See `cog list algorithms`.", show_default="bfn")] = None,
    obs: Annotated[
        str | None, typer.Option(help="image, image+robot or state.", show_default="image+robot")
    ] = None,
    preset: Annotated[str | None, typer.Option(help="fast or paper.", show_default="fast")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the configuration.")] = None,
    steps: Annotated[int | None, typer.Option(help="Gradient updates in all.")] = None,
    seed: Annotated[int | None, typer.Option(help="Root of every random stream.", show_default="0")] = None,
    seeds: Annotated[
        str | None, typer.Option(help="START:STOP: a run for each seed, all at once, sharing the cores.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda …", show_default="auto")] = None,
    threads: Annotated[int | None, typer.Option(help="torch threads; else one per core.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Budget of the frame pool; else half the machine's.")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run, as it was begun; only --steps may differ.")
    ] = None,
    from_: Annotated[
        str | None,
        typer.Option("--from", help="Start from the weights of RUN, RUN@UPDATE or RUN@best; else fresh."),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(help="Instead of --algo: all stages of one of `cog list methods`, run by run."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            help="TOML file with these options and a table [set]; what is typed wins. Another --algo or "
            "--method than the file's leaves its [set] out."
        ),
    ] = None,
    print_config: Annotated[
        bool, typer.Option("--print-config", help="Print all settings as such a file, do nothing.")
    ] = False,
    eval_env: Annotated[
        str | None, typer.Option(help="Judge checkpoints there while training: see `cog eval --update best`.")
    ] = None,
    eval_every: Annotated[
        int | None, typer.Option(help="Updates from one judgement to the next.", show_default="1000")
    ] = None,
    eval_episodes: Annotated[
        int | None, typer.Option(help="Episodes of each judgement.", show_default="20")
    ] = None,
    alarm: Annotated[
        str | None,
        typer.Option(
            help="LINES[:MARGIN] of metrics with impossible values that stop a run, or off.",
            show_default="20:0.1",
        ),
    ] = None,
    log: Annotated[
        list[str] | None, typer.Option(help="wandb or trackio, beside TensorBoard; may be given twice.")
    ] = None,
    pool: Annotated[
        str | None, typer.Option(help="host, or device: all frames on the accelerator.", show_default="host")
    ] = None,
    root: Root = None,
) -> None:
    """Learn from a mixture. The same command again goes on where it was stopped."""
    from trainers.settings import TrainSettings, read_settings

    typed = TrainSettings(
        mixture=mixture,
        method=method,
        algo=algo,
        preset=preset,
        obs=obs,
        seed=seed,
        seeds=seeds,
        steps=steps,
        device=device,
        threads=threads,
        memory=memory,
        from_=from_,
        eval_env=eval_env,
        eval_every=eval_every,
        eval_episodes=eval_episodes,
        alarm=alarm,
        log=tuple(log) if log else None,
        pool=pool,
        set=tuple(set_ or ()),
    )
    settings = typed if config is None else read_settings(config).under(typed)
    store = _store(root)
    if resume is None and settings.mixture is None:
        raise CogError("name a mixture with --mixture, or a run to go on with by --resume")
    _check_steps(settings.steps)
    _check_judging(settings)
    if resume is not None:
        stages, ref = _resumed(store, settings, typed, resume)
    else:
        stages, ref = _stages(store, settings), settings.mixture or ""
    if print_config:
        if resume is not None and (part := stages[0][0].method) is not None:
            raise CogError(f"run {resume!r} is a stage of a method: print the settings of --method {part}")
        say(_as_toml(store, settings, stages, ref).rstrip())
    elif settings.seeds is not None:
        _train_seeds(store, settings, stages, ref)
    else:
        _train_stages(store, settings, stages, ref)


def _train_seeds(
    store: Store, settings: TrainSettings, stages: list[tuple[TrainRequest, str]], mixture: str
) -> None:
    """Train a run for each seed, all at once: processes that share the store and nothing else."""
    import tempfile
    from dataclasses import replace

    from cogdata.commands import Commands
    from cogdata.footprint import check_memory
    from cogdata.manifest import read_manifest
    from cogdata.stream import StreamOptions
    from trainers.algorithm import OBS_KINDS

    seeds = _all_seeds(settings)
    whole = _mixture(store, mixture)
    for request, portion in stages:
        manifest = read_manifest(store, _portion(store, whole, portion))
        columns = OBS_KINDS[request.obs]
        options = StreamOptions(request.config.batch_size, columns=columns, memory_bytes=request.memory_bytes)
        check_memory(manifest, options, copies=len(seeds))
        _judging(settings, request, manifest)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "settings.toml"
        file.write_text(_as_toml(store, replace(settings, seeds=None), stages, whole))
        same = [sys.executable, __file__, "train", "--config", str(file), "--root", store.url]
        with (
            Commands({f"seed {seed}": [*same, "--seed", str(seed)] for seed in seeds}) as commands,
            _ending_on_request(commands.stop) as ending,
        ):
            for line in commands.lines():
                (say if line.result else note)(f"{line.name}: {line.text}")
            codes = commands.codes()
    failed = [name for name, code in codes.items() if code not in (0, INTERRUPTED)]
    if failed and not ending():
        raise CogError(f"{', '.join(failed)} failed as said above, the others did not: see `cog runs ls`")
    if ending() or INTERRUPTED in codes.values():
        raise typer.Exit(INTERRUPTED)


def _all_seeds(settings: TrainSettings) -> list[int]:
    """The seeds of runs that are trained at once."""
    from cogdata.machine import usable_cores
    from trainers.ranks import ranks_here

    if settings.seed is not None:
        raise CogError("--seeds are several, --seed is one: leave one of them out")
    if ranks_here() > 1:
        raise CogError("--seeds trains several runs, torchrun several processes of one run: use one of them")
    seeds, most = _seeds(settings.seeds, None), 4 * usable_cores()
    if len(seeds) > most:
        raise CogError(
            f"--seeds {settings.seeds} are {len(seeds)} runs at once, too many for {usable_cores()} cores: "
            f"give at most {most} at a time"
        )
    return seeds


def _train_stages(
    store: Store,
    settings: TrainSettings,
    stages: list[tuple[TrainRequest, str]],
    mixture: str,
) -> str:
    """Train runs one after another, each from where the one before it ended; returns the last one."""
    from cogdata.manifest import read_manifest
    from trainers.ranks import ranks_of_torchrun
    from trainers.start import from_run

    again = None if settings.method is None else "the same command"
    ended: str | None = None
    with ranks_of_torchrun(stages[0][0].device) as ranks, _speaking(ranks.first):
        if not ranks.first:
            ranks.wait()  # until the first one has frozen what is not frozen yet
        whole = _mixture(store, mixture)
        manifests = [read_manifest(store, _portion(store, whole, portion)) for _, portion in stages]
        if ranks.first:
            ranks.wait()
        for (request, _), manifest in zip(stages, manifests, strict=True):
            begun = request if ended is None else from_run(store, request, ended)
            judging = _judging(settings, begun, manifest)
            run, done = _train(store, manifest, begun, judging=judging, ranks=ranks, again=again)
            ranks.wait()  # until its last checkpoint has been written
            ended = f"{run}@{done}"
    return run


@contextlib.contextmanager
def _speaking(aloud: bool) -> Iterator[None]:
    """Print in this block, or let another process say the same."""
    if aloud:
        yield
        return
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def _resumed(
    store: Store, settings: TrainSettings, typed: TrainSettings, run: str
) -> tuple[list[tuple[TrainRequest, str]], str]:
    """The request that goes on with a run, as the only stage, and its mixture."""
    from dataclasses import replace

    from cogdata.manifest import read_manifest
    from cogdata.runs import read_run
    from trainers.methods import WHOLE
    from trainers.ranks import device_to_resume_on
    from trainers.request import resume_request, run_id
    from trainers.settings import RUN_OPTIONS

    if typed.set or settings.tables or any(getattr(settings, name) is not None for name in RUN_OPTIONS):
        raise CogError(
            "--resume goes on with a run as it was begun: give only --steps or --root with it, or how it is "
            "judged and logged"
        )
    info = read_run(store, run)
    request = resume_request(store, run, updates=settings.steps)
    request = replace(request, device=device_to_resume_on(request.device), **_watched(settings))
    ref = f"{info.mixture}@{info.mixture_version}"
    if run_id(read_manifest(store, ref), request) != run:
        raise CogError(
            f"run {run!r} cannot be gone on with: its mixture {ref} or its settings are "
            f"not what they were; train anew with --mixture"
        )
    return [(request, WHOLE)], ref


def _stages(store: Store, settings: TrainSettings) -> list[tuple[TrainRequest, str]]:
    """Every run that the settings ask for, in order, with the portion of the mixture that it learns from."""
    from cogdata.machine import usable_cores
    from cogdata.stream import default_memory
    from trainers.methods import WHOLE
    from trainers.ranks import device_of_rank, ranks_here
    from trainers.request import TrainRequest
    from trainers.start import check_start, from_run

    among = ranks_here() if settings.seeds is None else len(_all_seeds(settings))
    common = {
        "seed": _natural("--seed", settings.seed or 0),
        "device": device_of_rank(_device(_first_said(settings.device, "auto"))),
        "threads": max(1, usable_cores() // among) if settings.threads is None else settings.threads,
        "memory_bytes": default_memory() // among if settings.memory is None else _bytes(settings.memory),
        **_watched(settings),
    }
    if settings.method is None:
        algo, preset, obs, config = _settings(store, settings)
        request = TrainRequest(algo, config, preset, obs, **common)
        if settings.from_ is not None:
            request = from_run(store, request, settings.from_)
            check_start(store, request)
        return [(request, WHOLE)]
    if settings.algo is not None or settings.from_ is not None:
        raise CogError(
            f"--method {settings.method} says what learns and from where: leave --algo and --from out"
        )
    return _stages_of_method(settings.method, settings, common)


def _stages_of_method(
    method: str, settings: TrainSettings, common: dict[str, Any]
) -> list[tuple[TrainRequest, str]]:
    from trainers.algos import config_class
    from trainers.methods import configure_stages, find_method
    from trainers.request import TrainRequest

    configs = {stage.algo: config_class(stage.algo) for stage in find_method(method).stages}
    preset = _first_said(settings.preset, "fast")
    return [
        (
            TrainRequest(
                stage.algo,
                config,
                preset,
                _first_said(settings.obs, "image+robot"),
                **common,
                method=method,
                stage=stage.algo,
            ),
            stage.portion,
        )
        for stage, config in configure_stages(method, preset, settings.overrides(configs))
    ]


def _watched(settings: TrainSettings) -> dict[str, Any]:
    """What a request says of how a run is watched, which may be another each time it goes on."""
    from trainers.alarm import Alarm, parse_alarm

    alarm = Alarm() if settings.alarm is None else parse_alarm(settings.alarm)
    return {"alarm": alarm, "trackers": settings.log or (), "pool": _first_said(settings.pool, "host")}


def _check_steps(steps: int | None) -> None:
    if steps is not None and not 1 <= steps <= 10**9:
        raise CogError(f"--steps is {steps}, must be from 1 to {10**9:,}")


def _check_judging(settings: TrainSettings) -> None:
    """Refuse what cannot be judged on the way, before anything is begun."""
    if settings.eval_env is None:
        if settings.eval_every is not None or settings.eval_episodes is not None:
            raise CogError("--eval-every and --eval-episodes say how to judge while training: add --eval-env")
        return
    from collectors.drivers import check_name, is_driver

    check_name(settings.eval_env)
    if is_driver(settings.eval_env):
        raise CogError(f"{settings.eval_env} is a robot: judge a checkpoint there with `cog eval`")
    if settings.eval_every is not None and settings.eval_every < 1:
        raise CogError(f"--eval-every is {settings.eval_every}, must be at least 1")
    if settings.eval_episodes is not None:
        _countable("--eval-episodes", settings.eval_episodes)


def _judging(settings: TrainSettings, request: TrainRequest, manifest: Manifest) -> Judging | None:
    """How a run is judged while it trains, if it is."""
    if settings.eval_env is None:
        return None
    from trainers.algorithm import OBS_KINDS
    from trainers.judge import FIRST_SEED, Judging

    size = manifest.info.image_size[0]
    if "scene" in OBS_KINDS[request.obs]:
        _check_scene(settings.eval_env, manifest)
    episodes = 20 if settings.eval_episodes is None else settings.eval_episodes
    return Judging(
        _world(settings.eval_env, size, OBS_KINDS[request.obs]),
        1000 if settings.eval_every is None else settings.eval_every,
        tuple(range(FIRST_SEED, FIRST_SEED + episodes)),
    )


def _check_scene(env: str, manifest: Manifest) -> None:
    """Refuse to judge who looks at the scene of a mixture in another scene."""
    from collectors.drivers import open_env

    world = open_env(env, image_size=manifest.info.image_size[0], observations=("robot",))
    world.close()
    if world.scene_fields != manifest.info.scene_fields:
        raise CogError(
            f"--eval-env {env} has the scene {', '.join(world.scene_fields)}, mixture {manifest.info.ref} "
            f"{', '.join(manifest.info.scene_fields)}: judge in the scene of the data"
        )


def _as_toml(
    store: Store, settings: TrainSettings, stages: list[tuple[TrainRequest, str]], mixture: str
) -> str:
    """All settings of runs as a file that asks for the same again."""
    from cogdata.manifest import list_versions, parse_ref, read_info
    from trainers.settings import to_toml

    request, _ = stages[0]
    frozen = list_versions(store, parse_ref(mixture)[0])
    method = settings.method is not None
    start = request.parent and f"{request.parent}@{request.parent_update}"
    options = {
        "mixture": read_info(store, mixture).ref if frozen else mixture,
        **({"method": settings.method} if method else {"algo": request.algo}),
        "preset": request.preset,
        "obs": request.obs,
        "seed": request.seed if settings.seeds is None else None,
        "seeds": settings.seeds,
        "device": request.device,
        "threads": request.threads,
        "memory": str(request.memory_bytes),
        "from_": start,
        "eval_env": settings.eval_env,
        "eval_every": settings.eval_every,
        "eval_episodes": settings.eval_episodes,
        "alarm": str(request.alarm),
        "log": request.trackers,
        "pool": request.pool,
    }
    titles = {f"set.{one.algo}" if method else "set": one.config.to_dict() for one, _ in stages}
    return to_toml(options, titles)


def _portion(store: Store, ref: str, portion: str) -> str:
    """Resolve a portion of a mixture; it is frozen if it has not been."""
    from trainers.methods import WHOLE

    if portion == WHOLE:
        return ref
    try:
        from catalog.portions import freeze_portion
    except ModuleNotFoundError:
        raise CogError(
            f"the {portion} portion of {ref} is frozen by the catalog, which needs duckdb: install it here"
        ) from None
    return str(freeze_portion(store, ref, portion).ref)


def _settings(store: Store, settings: TrainSettings) -> tuple[str, str, str, Any]:
    """Algorithm, preset, observation and configuration; those not given are the parent's, if there is one."""
    from cogdata.runs import read_run
    from trainers.algos import config_class, config_from_dict, configure
    from trainers.start import parse_run, same_policy

    algo, preset, obs, parent = settings.algo, settings.preset, settings.obs, settings.from_
    theirs = None if parent is None else read_run(store, parse_run(parent)[0])
    if theirs is None:
        algo, obs = _first_said(algo, "bfn"), _first_said(obs, "image+robot")
    else:
        algo, obs = _first_said(algo, theirs.algo), _first_said(obs, theirs.obs)
    overrides = settings.overrides({algo: config_class(algo)})
    if theirs is None or algo != theirs.algo or preset is not None:
        shared = [] if theirs is None else same_policy(theirs.algo, theirs.config, algo)
        preset = _first_said(preset, "fast")
        return algo, preset, obs, configure(algo, preset, [*shared, *overrides])
    return algo, theirs.preset, obs, config_from_dict(algo, theirs.config).override(overrides)


def _first_said(text: str | None, otherwise: str) -> str:
    """What was said, were it nothing at all, or what holds if nothing was."""
    return otherwise if text is None else text


def _natural(option: str, value: int) -> int:
    """Check that a number fits SQL's BIGINT and is not negative."""
    if not 0 <= value < 2**63:
        raise CogError(f"{option} is {value}, must be from 0 to 2^63 - 1")
    return value


def _countable(option: str, value: int) -> int:
    """Check that there may be so many of something that is listed one by one."""
    if not 1 <= value <= MOST_EPISODES:
        raise CogError(f"{option} is {value}, must be from 1 to {MOST_EPISODES:,}")
    return value


def _bytes(text: str) -> int:
    from cogdata.units import parse_bytes

    try:
        return parse_bytes(text)
    except CogError:
        raise CogError(f"--memory {text!r} must be a size above 0, for example 500MB or 2GiB") from None


def _device(name: str) -> str:
    import torch

    if name != "auto":
        return name
    return "cuda" if torch.cuda.is_available() else "cpu"


def _mixture(store: Store, ref: str) -> str:
    """Resolve a mixture; a recipe is frozen if there is none of its name and the catalog is installed."""
    from cogdata.manifest import list_versions, parse_ref

    name, _ = parse_ref(ref)
    if list_versions(store, name):
        return ref
    try:
        from catalog.recipes import ensure_mixture, shortfall
    except ModuleNotFoundError:
        return ref
    info = ensure_mixture(store, ref)
    note(f"recipe frozen as {info.ref}")
    if line := shortfall(store, name):
        note(line)
    return str(info.ref)


def _index(store: Store) -> None:
    """Bring the catalog up to date where it is installed; the next command does it otherwise."""
    with contextlib.suppress(ModuleNotFoundError):
        from catalog.sync import try_sync

        try_sync(store)


def _train(
    store: Store,
    manifest: Manifest,
    request: TrainRequest,
    *,
    judging: Judging | None = None,
    ranks: Ranks | None = None,
    again: str | None = None,
) -> tuple[str, int]:
    """Train a run, or go on with it; ``again`` goes on with it after Ctrl-C, else ``--resume``.

    Returns:
        The run, and the updates that it has: more than were asked for if it was longer already.
    """
    from cogdata.footprint import check_memory
    from cogdata.runs import read_best
    from cogdata.stream import open_stream
    from trainers.ranks import Ranks
    from trainers.request import run_id
    from trainers.resident import ResidentStream
    from trainers.train import Progress, train

    run = run_id(manifest, request)
    note(
        f"run {run} on {manifest.info.ref}: {request.config.updates:,} updates of {request.config.batch_size}"
    )
    ticker = Ticker()

    def opened(options: StreamOptions) -> Stream:
        check_memory(manifest, options)
        return open_stream(store, manifest, options)

    def opened_there(options: StreamOptions) -> ResidentStream:
        return ResidentStream(opened(options), request.device)

    def show(progress: Progress) -> None:
        if progress.warning:
            ticker.clear()
            note(f"warning: {progress.warning}")
        if progress.judged:
            ticker.clear()
            found = progress.judged
            note(
                f"judged at {found.update:,} updates: {found.env} {found.successes}/{len(found.seeds)} = "
                f"{found.rate:.2f}"
            )
        ticker.show(lambda: _progress_line(progress))

    try:
        _, state = train(
            store,
            manifest,
            request,
            open_stream=opened_there if request.pool == "device" else opened,
            on_progress=show,
            judging=judging,
            ranks=ranks or Ranks(),
        )
    finally:
        ticker.clear()
        if ranks is None or ranks.first:
            _index(store)
    if state.status == "stopped":
        command = again or f"cog train --resume {run} --root {store.url}"
        note(f"stopped after {state.updates_done:,} updates; go on with: {command}")
        raise typer.Exit(INTERRUPTED)
    say(f"{run}: {state.updates_done:,} updates in {state.seconds:.0f} s")
    if judging is not None and (best := read_best(store, run)) is not None:
        say(f"  best judged: update {best.update:,}, {best.successes}/{len(best.seeds)} in {best.env}")
    return run, state.updates_done


def _progress_line(progress: Any) -> str:  # noqa: ANN401 - a Progress, imported lazily
    metrics = " · ".join(f"{name} {value:.4g}" for name, value in list(progress.metrics.items())[:5])
    return (
        f"{progress.update:,}/{progress.updates:,} updates · {progress.updates_per_s:.1f}/s · "
        f"{progress.seconds_left:.0f} s left · waiting {progress.loader_wait:.0%} · {metrics}"
    )


# --- finetune --------------------------------------------------------------------------------------------


@app.command("finetune")
def finetune_command(
    run: Annotated[str, typer.Argument(help="RUN, RUN@UPDATE or RUN@best to go on from.")],
    env: Annotated[str, typer.Option(help="Where: see `cog list envs`, or module:Class of yours.")],
    episodes: Annotated[int, typer.Option(help="How many the run shall collect in all.")],
    algo: Annotated[
        str | None,
        typer.Option(help="Another algorithm, started from the run's weights.", show_default="its own"),
    ] = None,
    data: Annotated[
        str, typer.Option(help="online, or symmetric: half of every batch from the run's mixture.")
    ] = "symmetric",
    updates_per_step: Annotated[float, typer.Option(help="Gradient updates per action.")] = 1.0,
    round_: Annotated[
        int, typer.Option("--round", help="Episodes between two stretches of updates, up to 16.")
    ] = 10,
    preset: Annotated[
        str | None, typer.Option(help="fast or paper, with --algo.", show_default="fast")
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE of the configuration.")] = None,
    seed: Annotated[
        int | None, typer.Option(help="Root of every random stream.", show_default="the run's")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    threads: Annotated[int | None, typer.Option(help="torch threads; else one per core.")] = None,
    memory: Annotated[
        str | None, typer.Option(help="Budget of the frame pool of the mixture; else half the machine's.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    root: Root = None,
) -> None:
    """Go on learning from episodes that the policy itself collects. The same command again resumes it."""
    from cogdata.machine import usable_cores
    from cogdata.manifest import read_manifest
    from cogdata.runs import read_run
    from cogdata.stream import default_memory
    from collectors.drivers import is_driver
    from trainers.online import Online
    from trainers.ranks import ranks_here
    from trainers.request import TrainRequest
    from trainers.start import from_run, parse_run

    if ranks_here() > 1:
        raise CogError("fine-tuning takes one process: type `cog finetune …` without torchrun")
    store = _store(root)
    theirs = read_run(store, parse_run(run)[0])
    manifest = read_manifest(store, f"{theirs.mixture}@{theirs.mixture_version}")
    count = _workers(workers, one_robot=is_driver(env))
    arena, horizon = _arena(env, manifest.info.image_size[0], count)
    chosen, preset, config = _finetuned(theirs, algo, preset, set_ or [])
    online = Online(env, episodes, horizon, data, updates_per_step, round_, continues=chosen == theirs.algo)
    request = TrainRequest(
        chosen,
        config,
        preset,
        theirs.obs,
        _natural("--seed", theirs.seed if seed is None else seed),
        _device(device),
        usable_cores() if threads is None else threads,
        default_memory() if memory is None else _bytes(memory),
        online=online,
    )
    _begin_finetune(store, manifest, from_run(store, request, run), arena, horizon, count)


def _begin_finetune(
    store: Store, manifest: Manifest, request: TrainRequest, arena: Arena, horizon: int, workers: int
) -> str:
    """Fine-tune, or go on with it; returns the run."""
    from collectors.provenance import describe_learned
    from trainers.finetune import Surroundings
    from trainers.request import run_id

    run = run_id(manifest, request)
    head = describe_learned(
        run,
        arena.env,
        root_seed=request.seed,
        image_size=arena.image_size,
        horizon=horizon,
        command=shlex.join(["cog", *sys.argv[1:]]),
    )
    around = Surroundings(arena, head, _opening(store, manifest, _online_memory(store, request)), workers)
    _finetune(store, manifest, request, around)
    return run


def _finetuned(
    theirs: RunInfo, algo: str | None, preset: str | None, overrides: list[str]
) -> tuple[str, str, Any]:
    """Algorithm, preset and configuration: the run's own, or another's with the same policy network."""
    from trainers.algos import config_from_dict, configure
    from trainers.start import same_policy

    if any(pair.partition("=")[0].strip() == "updates" for pair in overrides):
        raise CogError("--set updates is not for `cog finetune`: --episodes and --updates-per-step decide it")
    if algo is None or algo == theirs.algo:
        if preset is not None:
            raise CogError(
                "--preset is of another algorithm: add --algo, or change single settings with --set"
            )
        return theirs.algo, theirs.preset, config_from_dict(theirs.algo, theirs.config).override(overrides)
    preset = _first_said(preset, "fast")
    shared = same_policy(theirs.algo, theirs.config, algo)
    return algo, preset, configure(algo, preset, [*shared, *overrides])


def _arena(env: str, image_size: int, workers: int) -> tuple[Arena, int]:
    """Where a learner collects, and the horizon there."""
    import functools

    from collectors.checks import check_env
    from collectors.drivers import is_driver, open_env
    from trainers.online import Arena
    from trainers.worlds import WORLDS

    check_env(env, image_size=image_size)
    make = functools.partial(open_env, env, image_size=image_size)
    world = open_env(env, image_size=image_size, observations=("robot",))
    world.close()
    arena = Arena(
        env,
        make,
        world.task_predicate,
        world.scene_fields,
        image_size,
        together=workers if is_driver(env) else WORLDS,
    )
    return arena, world.horizon


def _online_memory(store: Store, request: TrainRequest) -> int:
    """Bytes that a run's own episodes will take; says so if they are many, refuses if too many."""
    from cogdata.machine import free_memory
    from trainers.algorithm import ObsSpec
    from trainers.checkpoint import read_info
    from trainers.finetune import online_of
    from trainers.replay import Replay
    from trainers.start import parent_of

    spec = ObsSpec.from_dict(read_info(store, parent_of(request), request.parent_update).obs)
    online, free = online_of(request), free_memory()
    needed = Replay.needs_bytes(spec, online.frames)
    said = (
        f"{online.episodes:,} episodes of {online.horizon} steps take up to {needed / 1e9:.1f} GB of memory"
    )
    if free is not None and needed > free:
        raise CogError(
            f"{said}, {free / 1e9:.1f} GB are free: ask for fewer --episodes, or stop something else"
        )
    if needed > 10**8:
        note(said)
    return needed


def _opening(store: Store, manifest: Manifest, beside: int) -> Callable[[StreamOptions], Stream]:
    """Open a mixture's batches if they fit into memory beside what else is there."""
    from cogdata.footprint import footprint
    from cogdata.machine import free_memory
    from cogdata.stream import open_stream

    def opened(options: StreamOptions) -> Stream:
        needed, free = sum(footprint(manifest, options)) + beside, free_memory()
        if free is not None and needed > free:
            raise CogError(
                f"the mixture's pool and the run's own episodes take {needed / 1e9:.1f} GB, "
                f"{free / 1e9:.1f} GB are free: give --memory, fewer --episodes or --data online"
            )
        return open_stream(store, manifest, options)

    return opened


def _finetune(store: Store, manifest: Manifest, request: TrainRequest, around: Surroundings) -> None:
    from dataclasses import replace

    from cogdata.parts import list_parts, part_range, read_collection
    from collectors.provenance import changed_since
    from trainers.finetune import finetune, online_of

    run, online, ticker = around.head.name, online_of(request), Ticker()
    note(
        f"run {run} from {request.parent} @ {request.parent_update:,}: {online.episodes:,} episodes in "
        f"{online.env}"
    )
    began = store.exists(f"collections/{run}/collection.json")
    changed = changed_since(read_collection(store, run)) if began else None

    def show(at: FinetuneProgress) -> None:
        nonlocal changed
        if changed and at.steps_per_s is not None:  # episodes were added
            ticker.clear()
            note(f"warning: {changed}")
            changed = None
        ticker.show(lambda: _online_line(at))

    try:
        with _ending_on_request(lambda: None) as asked:
            around = replace(around, stop_asked=asked, on_progress=show)
            _, state = finetune(store, manifest, request, around)
    finally:
        ticker.clear()
        _index(store)
    if state.status == "stopped":
        note(f"stopped after {state.updates_done:,} updates; go on with: the same command")
        raise typer.Exit(INTERRUPTED)
    held = max(part_range(part)[1] for part in list_parts(store, run))
    say(f"{run}: {held:,} episodes, {state.updates_done:,} updates in {state.seconds:.0f} s")


def _online_line(at: FinetuneProgress) -> str:
    parts = [f"{at.episodes:,}/{at.of:,} episodes", f"{at.update:,} updates"]
    if at.recent is not None:
        parts.insert(1, f"the newest succeed {at.recent:.0%}")
    if at.steps_per_s is not None:
        parts.append(f"{at.steps_per_s:.0f} steps/s")
    if at.updates_per_s is not None:
        parts.append(f"{at.updates_per_s:.1f} updates/s")
    return " · ".join(parts)


# --- eval ------------------------------------------------------------------------------------------------


@app.command("eval")
def eval_command(
    run: Annotated[str, typer.Argument(help="Run id, as `cog runs ls` prints it.")],
    env: Annotated[
        list[str],
        typer.Option(
            help="Where: see `cog list envs`, or module:Class of yours; may be given several times."
        ),
    ],
    episodes: Annotated[int | None, typer.Option(help="How many; else as many as --seeds, or 250.")] = None,
    seeds: Annotated[str | None, typer.Option(help="START:STOP, given to the world's reset.")] = None,
    update: Annotated[
        str | None, typer.Option(help="Which checkpoint, a number or best; else the newest.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    record: Annotated[int, typer.Option(help="Write an animated WebP of so many first episodes.")] = 0,
    engine: EngineName = "local",
    address: Address = None,
    root: Root = None,
) -> None:
    """Judge a run in simulation; every episode becomes a row of `evaluations`."""
    from collectors.drivers import check_name, is_driver
    from trainers.judge import parse_update

    for name in env:
        check_name(name)
    chosen, on_ray = _seeds(seeds, episodes), _on_ray(engine, address, *env)
    if record < 0:
        raise CogError(f"--record is {record}, must be 0 or more")
    store = _store(root)
    chosen_update = parse_update(store, run, update)
    for name in env:
        count = _cluster(address, workers) if on_ray else _workers(workers, one_robot=is_driver(name))
        _evaluate(store, run, name, chosen, update=chosen_update, workers=count, record=record)
    _index(store)


def _cluster(address: str | None, workers: str) -> Cluster:
    from cogdata.cluster import Cluster

    return Cluster(address, None if workers == "auto" else _workers(workers))


def _seeds(text: str | None, episodes: int | None) -> list[int]:
    if episodes is not None:
        _countable("--episodes", episodes)
    if text is None:
        return list(range(episodes or 250))
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise CogError(f"--seeds {text!r} must be START:STOP, for example 0:250")
    _natural("--seeds", int(stop))
    if int(stop) - int(start) > MOST_EPISODES:
        raise CogError(f"--seeds {text} are more than {MOST_EPISODES:,}: give fewer")
    chosen = list(range(int(start), int(stop)))
    if episodes is not None and episodes > len(chosen):
        raise CogError(f"--seeds {text} are {len(chosen)}, --episodes asks for {episodes}: give more seeds")
    return chosen[: episodes or None]


def _world(env: str, image_size: int, parts: Iterable[str]) -> World:
    """Where policies are judged that look at these parts of an observation."""
    import functools

    from collectors.drivers import open_env
    from trainers.evaluate import World

    shown = tuple(sorted(parts))
    return World(env, functools.partial(open_env, env, image_size=image_size, observations=shown))


def _evaluate(
    store: Store,
    run: str,
    env: str,
    seeds: list[int],
    *,
    update: int | None,
    workers: int | Cluster,
    record: int,
) -> Any:  # noqa: ANN401 - an Evaluation, imported lazily
    from dataclasses import replace

    from cogdata.intervals import wilson
    from cogdata.pictures import animated_webp, enlarge
    from collectors.checks import check_env
    from collectors.drivers import is_driver
    from trainers.evaluate import evaluate, open_policy, write_evaluation

    policy = open_policy(store, run, update)
    parts = {*policy.learner.spec.parts, *(("image",) if record else ())}
    size = policy.learner.spec.image_size[0]
    check_env(env, image_size=size)
    world = _world(env, size, parts)
    if is_driver(env) and isinstance(workers, int):
        world = replace(world, together=workers)
    ticker = Ticker()
    found = evaluate(
        policy,
        world,
        seeds,
        workers=workers,
        record=record,
        on_progress=lambda done, total, won: ticker.show(lambda: f"{env}: {done}/{total} · {won} succeeded"),
    )
    ticker.clear()
    write_evaluation(store, found)
    low, high = wilson(found.successes, len(seeds))
    say(
        f"{run} @ {policy.update:,} · {env}: {found.successes}/{len(seeds)} = "
        f"{found.successes / len(seeds):.3f} [{low:.3f}, {high:.3f}]"
    )
    for seed, frames in found.frames.items():
        path = f"runs/{run}/evaluations/{found.name}-seed{seed}.webp"
        store.write_bytes(path, animated_webp(enlarge(frames, 4)))
        say(f"  {store.path(path)}")
    return found


# --- export-policy ---------------------------------------------------------------------------------------


@app.command("export-policy")
def export_policy_command(
    run: Annotated[str, typer.Argument(help="Run id, as `cog runs ls` prints it.")],
    format: Annotated[str, typer.Option(help="onnx (for ONNX Runtime) or torch (torch.export).")] = "onnx",
    update: Annotated[
        str | None, typer.Option(help="Which checkpoint, a number or best; else the newest.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File to write.", show_default="RUN-UPDATE.onnx or .pt2")
    ] = None,
    root: Root = None,
) -> None:
    """Write a policy into one file that runs without this project: observations in, action out."""
    from trainers.evaluate import open_policy
    from trainers.export import SUFFIXES, export_policy
    from trainers.judge import parse_update

    store = _store(root)
    policy = open_policy(store, run, parse_update(store, run, update))
    exported = export_policy(policy, format)
    path = out or Path(f"{run}-{policy.update:08d}{SUFFIXES[format]}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(exported.data)
    except OSError as error:
        raise CogError(f"cannot write {path} ({error.strerror or error}): name another with --out") from None
    say(f"{path}: {len(exported.data) / 1e6:.1f} MB, update {policy.update:,} of {run}")
    for entry in (*exported.about["inputs"], *exported.about["outputs"]):
        say(f"  {entry['name']}: {entry['dtype']} ({', '.join(map(str, entry['shape']))})")
    say(f"  tried on random observations: actions differ from the learner's by at most {exported.error:.1g}")


# --- runs ------------------------------------------------------------------------------------------------


@runs_app.command("ls")
def runs_ls(format: Format = "table", root: Root = None) -> None:
    """List runs with their success rates."""
    from catalog.output import check_format
    from catalog.summaries import runs_table

    check_format(format)
    empty = "no runs yet: start one with `cog train --mixture place_in_tray`"
    _print_listing(runs_table(_store(root)), format, empty)


@runs_app.command("show")
def runs_show(run: Annotated[str, typer.Argument(help="Run id.")], root: Root = None) -> None:
    """Show what a run is, how far it came and how it was judged."""
    from dataclasses import asdict

    from catalog.summaries import judged_table
    from cogdata.runs import ancestry, read_best, read_state

    store = _store(root)
    chain, state = ancestry(store, run), read_state(store, run)
    say(json.dumps({"run": asdict(chain[0]), "state": asdict(state) if state else None}, indent=2))
    for child in chain:
        if child.parent is not None:
            parent = next((info for info in chain if info.run == child.parent), None)
            what = (
                f"{parent.algo} on {parent.mixture}@{parent.mixture_version}" if parent else "removed since"
            )
            say(f"{child.run} starts from {child.parent} @ {child.parent_update:,} ({what})")
    if (best := read_best(store, run)) is not None:
        say(f"best judged: update {best.update:,}, {best.successes}/{len(best.seeds)} in {best.env}")
    _print_table(judged_table(store, run))


@runs_app.command("compare")
def runs_compare(
    a: Annotated[str, typer.Argument(help="Run id.")],
    b: Annotated[str, typer.Argument(help="Run id.")],
    root: Root = None,
) -> None:
    """Compare two runs on the seeds that both were judged on, newest checkpoint of each."""
    from catalog.summaries import compare_runs

    for one in compare_runs(_store(root), a, b):
        say(
            f"{one.env}: {one.a}/{one.episodes} against {one.b}/{one.episodes} on the same seeds; "
            f"only the first {one.only_a}, only the second {one.only_b}, p = {one.p_value:.2g} (McNemar)"
        )


@runs_app.command("rm")
def runs_rm(
    run: Annotated[list[str], typer.Argument(help="Run ids.")],
    force: Annotated[bool, typer.Option("--force", help="Even if they were judged.")] = False,
    root: Root = None,
) -> None:
    """Remove runs with their checkpoints and evaluations; mixtures and episodes stay."""
    from catalog.runs import remove_runs

    for name, judged in remove_runs(_store(root), run, force=force):
        say(f"{name} removed" + (f", with {judged:,} judged episodes" if judged else ""))


# --- reproduce -------------------------------------------------------------------------------------------


Results = Annotated[Path, typer.Option(help="Folder of the JSON files, one per unit.")]
RESULTS = Path("results/table1")


@app.command("reproduce")
def reproduce_command(
    task: Annotated[str, typer.Argument(help="place_in_tray, drawer, or all.")] = "all",
    preset: Annotated[str, typer.Option(help="fast: made for two cores; paper: the paper's.")] = "fast",
    obs: Annotated[str, typer.Option(help="state, image or image+robot.")] = "state",
    methods: Annotated[
        str | None, typer.Option(help="Comma-separated: see `cog list methods`.", show_default="all")
    ] = None,
    seeds: Annotated[str, typer.Option(help="START:STOP, a run each.")] = "0:3",
    scale: Annotated[
        float | None,
        typer.Option(help="Fraction of the paper's episodes.", show_default="of paper 1, of fast less"),
    ] = None,
    trials: Annotated[int, typer.Option(help="Scenes per initial condition and seed.")] = 250,
    curve: Annotated[int, typer.Option(help="Scenes per checkpoint of the curves; 0: no curves.")] = 30,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="STAGE.KEY=VALUE of the configuration.")
    ] = None,
    finetune: Annotated[
        int | None,
        typer.Option(help="Instead of the table: go on with its policies for so many episodes online."),
    ] = None,
    variations: Annotated[
        str | None,
        typer.Option(help="Instead of the table: comma-separated, see `cog list variations`."),
    ] = None,
    jobs: Annotated[str, typer.Option(help="Units at once: a number, or auto for one per core.")] = "auto",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda …")] = "auto",
    results: Results = RESULTS,
    resume: Annotated[
        bool, typer.Option(help="Go on where it was stopped; --no-resume wants nothing to be there yet.")
    ] = True,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, do nothing.")] = False,
    unit: Annotated[str | None, typer.Option(help="This unit alone, in this process.")] = None,
    root: Root = None,
) -> None:
    """Table 1 from nothing: collect, freeze, train every method and seed, judge, write results down."""
    from trainers.benchmark import CURVE_POINTS, find_tasks
    from trainers.reproduce import Trials

    _countable("--trials", trials)
    if not 0 <= curve <= MOST_EPISODES:
        raise CogError(f"--curve is {curve}, must be from 0 to {MOST_EPISODES:,}")
    if scale is not None:
        _check_fraction(scale)
    common = {"obs": obs, "preset": preset, "seeds": _seeds(seeds, None)}
    units = _planned(find_tasks(task), methods, variations, finetune, set_ or [], common)
    amount, store = Trials(trials, curve, CURVE_POINTS), _store(root)
    if unit is not None:
        chosen = [one for one in units if one.name == unit]
        if not chosen:
            raise unknown("unit", unit, [one.name for one in units])
        _reproduce_unit(store, chosen[0], amount, results, _device(device))
        return
    command = [
        sys.executable, __file__, "reproduce", task, "--preset", preset, "--obs", obs, "--seeds", seeds,
        "--trials", str(trials), "--curve", str(curve), "--device", device, "--results", str(results),
        "--root", store.url, *([] if methods is None else ["--methods", methods]),
        *(word for pair in set_ or () for word in ("--set", pair)),
        *([] if finetune is None else ["--finetune", str(finetune)]),
        *([] if variations is None else ["--variations", variations]),
    ]  # fmt: skip
    count = _workers(jobs, option="--jobs")
    if not dry_run:
        for mixture, fraction in _fractions(units, scale).items():
            _collect_for(store, mixture, fraction, count)
    _reproduce(store, units, amount, results, command, at_once=count, resume=resume, dry_run=dry_run)


def _planned(
    tasks: list[str],
    methods: str | None,
    variations: str | None,
    finetune: int | None,
    settings: list[str],
    common: dict[str, Any],
) -> list[Unit]:
    """The units that the options ask for: the table's, those that go on from them online, or variations."""
    from trainers.benchmark import plan_finetuning, plan_units, plan_variations

    if variations is not None:
        if methods is not None or finetune is not None or settings:
            raise CogError("--variations say what learns and how: leave --methods, --finetune and --set out")
        return plan_variations(_names(variations), **common)
    names = None if methods is None else _names(methods)
    units = plan_units(tasks, methods=names, settings=settings, **common)
    return units if finetune is None else plan_finetuning(units, _countable("--finetune", finetune))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",")]


def _reproduce(
    store: Store,
    units: list[Unit],
    trials: Trials,
    results: Path,
    command: list[str],
    *,
    at_once: int,
    resume: bool,
    dry_run: bool,
) -> None:
    """Do what is missing of a plan, each unit in a process of its own."""
    from trainers.reproduce import expected_seconds, schedule_seconds

    began = time.monotonic()
    left, known = _units_left(store, units, trials, results)
    if not dry_run:
        for one in left:  # once, here: two units that freeze the same at once would make two versions of it
            _freeze_portions(store, one)
        left, known = _units_left(store, units, trials, results)  # on what was not frozen before, too
    if not resume and len(left) < len(units):
        raise CogError(
            f"{len(units) - len(left)} of {len(units)} units are there already: leave --no-resume out to go "
            f"on, or name another --results and --root"
        )
    expected = {one.name: expected_seconds(one, trials, known) for one in left}
    forecast = schedule_seconds(list(expected.values()), at_once) / 60
    say(
        f"{len(units)} units, {len(units) - len(left)} there, {len(left)} to do, {at_once} at a time: about "
        f"{forecast:.0f} minutes"
    )
    if dry_run:
        for one in left:
            where, minutes = ", ".join(one.envs), expected[one.name] / 60
            say(f"  {one.name}: {one.mixture}, judged in {where}, about {minutes:.1f} minutes")
        return
    _run_units(left, expected, at_once, command)
    minutes = (time.monotonic() - began) / 60
    say(f"{len(units)} units are in {results} · {minutes:.1f} minutes · next: cog report")


def _fractions(units: list[Unit], scale: float | None) -> dict[str, float]:
    """Mixture → fraction of the paper's episodes."""
    from trainers.benchmark import TASKS

    if scale is not None:
        return {unit.mixture: scale for unit in units}
    return {unit.mixture: 1.0 if unit.preset == "paper" else TASKS[unit.task].scale for unit in units}


def _collect_for(store: Store, recipe: str, scale: float, workers: int) -> None:
    """Collect what a recipe lacks, unless a mixture of its name is frozen already."""
    from catalog.recipes import find_recipe
    from cogdata.manifest import list_versions
    from collectors.collect import plan, request

    if list_versions(store, recipe):
        return
    for need in find_recipe(recipe).needs:
        planned = plan(store, request(need.policy, env=need.env), need.scaled(scale))
        if planned.missing:
            say(f"collecting {planned.missing:,} episodes of {need.policy} in {planned.asked.env}")
            _collect(store, planned, _local_engine(workers))


def _units_left(
    store: Store, units: list[Unit], trials: Trials, results: Path
) -> tuple[list[Unit], list[Result]]:
    """Units without a result on the present mixture, and all results that can be read."""
    from cogdata.manifest import list_versions, read_info
    from trainers.reproduce import is_done
    from trainers.results import read_result

    found = {path.stem: read_result(path) for path in sorted(results.glob("*.json"))}
    digests = {
        name: read_info(store, name).digest if list_versions(store, name) else ""
        for name in {unit.learned_from for unit in units}
    }
    left = [
        unit
        for unit in units
        if unit.name not in found or not is_done(found[unit.name], unit, digests[unit.learned_from], trials)
    ]
    return left, list(found.values())


def _freeze_portions(store: Store, unit: Unit) -> None:
    from trainers.methods import find_method

    whole = _mixture_of(store, unit)
    for stage in find_method(unit.method).stages:
        _portion(store, whole, stage.portion)


def _mixture_of(store: Store, unit: Unit) -> str:
    """The mixture that a unit learns from; what is not frozen yet is frozen."""
    from cogdata.manifest import list_versions

    whole = _mixture(store, unit.mixture)
    if unit.learned_from == unit.mixture:
        return whole
    made = unit.derived
    if made.inferred:
        found = list_versions(store, unit.learned_from)
        return unit.learned_from if found else _infer(store, whole, unit.learned_from, obs=unit.obs)
    from catalog.portions import freeze_part

    part = freeze_part(store, whole, unit.variant, where=made.where, until=made.until, reward=made.reward)
    return part.ref


def _run_units(left: list[Unit], expected: dict[str, float], at_once: int, command: list[str]) -> None:
    """Run units as processes; what they say last is shown, what they end with is kept."""
    from cogdata.commands import Commands
    from trainers.reproduce import schedule_seconds

    latest: dict[str, str] = {}
    done: list[str] = []
    failed: list[str] = []
    ticker = Ticker(60)

    def minutes_left() -> float:
        rest = [seconds for name, seconds in expected.items() if name not in done]
        return schedule_seconds(rest or [0.0], at_once) / 60

    def ended(name: str, code: int) -> None:
        text = latest.pop(name, "")
        ticker.clear()
        if code == INTERRUPTED:
            return
        done.append(name)
        if code:
            failed.append(name)
            note(f"{name} failed: {text}")
        else:
            say(f"[{len(done)}/{len(left)}] {text} · about {minutes_left():.0f} minutes left")

    with (
        Commands({one.name: [*command, "--unit", one.name] for one in left}, at_once, ended) as commands,
        _ending_on_request(commands.stop) as ending,
    ):
        for line in commands.lines():
            latest[line.name] = line.text
            ticker.show(lambda: " | ".join(f"{name}: {text}" for name, text in latest.items()))
        codes = commands.codes()
    ticker.clear()
    if ending() or INTERRUPTED in codes.values():
        note(f"stopped: {len(done)} of {len(left)} units are done; the same command goes on")
        raise typer.Exit(INTERRUPTED)
    if failed:
        raise CogError(
            f"{len(failed)} of {len(left)} units failed as said above; the same command tries them again"
        )


def _reproduce_unit(store: Store, unit: Unit, trials: Trials, results: Path, device: str) -> None:
    """Train a unit, judge it, write its result."""
    from cogdata.manifest import read_info
    from collectors.drivers import check_name
    from collectors.provenance import revision
    from trainers.algorithm import OBS_KINDS
    from trainers.reproduce import commands_of, judge_unit
    from trainers.results import (
        Result,
        describe_data,
        describe_machine,
        describe_runs,
        online_outcomes,
        write_result,
    )
    from trainers.settings import TrainSettings

    for env in unit.envs:
        check_name(env)
    mixture = _mixture_of(store, unit)
    settings = TrainSettings(
        mixture=mixture, method=unit.method, preset=unit.preset, obs=unit.obs, seed=unit.seed,
        threads=1, device=device, alarm="off", set=unit.settings,
    )  # fmt: skip
    run = _train_stages(store, settings, _stages(store, settings), mixture)
    if unit.online:
        run = _finetune_unit(store, unit, run, device)
    size, parts = read_info(store, mixture).image_size[0], OBS_KINDS[unit.obs]
    began = time.monotonic()
    ticker = Ticker()
    judged, curve = judge_unit(
        store, unit, run, trials, lambda env: _world(env, size, parts), lambda text: ticker.show(lambda: text)
    )
    ticker.clear()
    result = Result(
        unit,
        describe_data(store, mixture),
        describe_runs(store, run),
        tuple(judged),
        tuple(curve),
        describe_machine(),
        revision(),
        commands_of(unit, trials),
        round(time.monotonic() - began, 1),
        online_outcomes(store, run) if unit.online else "",
    )
    write_result(results, result)
    _index(store)
    rates = ", ".join(f"{one.env} {one.successes}/{one.episodes}" for one in judged)
    say(f"{unit.name}: {rates} · {(result.training_seconds + time.monotonic() - began) / 60:.1f} minutes")


def _finetune_unit(store: Store, unit: Unit, run: str, device: str) -> str:
    """Go on online from the policy of a unit's run; returns the new run."""
    from cogdata.manifest import read_manifest
    from cogdata.runs import read_run
    from cogdata.stream import default_memory
    from trainers.benchmark import FINETUNED, UPDATES_PER_STEP
    from trainers.online import Online
    from trainers.reproduce import last_update
    from trainers.request import TrainRequest
    from trainers.start import from_run

    theirs, algo = read_run(store, run), FINETUNED[unit.method]
    manifest = read_manifest(store, f"{theirs.mixture}@{theirs.mixture_version}")
    arena, horizon = _arena(unit.envs[0], manifest.info.image_size[0], 1)
    chosen, preset, config = _finetuned(theirs, algo, None, [])
    online = Online(
        unit.envs[0], unit.online, horizon, "symmetric" if algo is None else "online", UPDATES_PER_STEP,
        continues=algo is None,
    )  # fmt: skip
    request = TrainRequest(
        chosen, config, preset, theirs.obs, unit.seed, device, 1, default_memory() // 2, online=online
    )
    request = from_run(store, request, f"{run}@{last_update(unit)}")
    return _begin_finetune(store, manifest, request, arena, horizon, 1)


@app.command("report")
def report_command(
    results: Results = RESULTS,
    out: Annotated[Path, typer.Option(help="Page to write; its figures go into a folder beside it.")] = Path(
        "docs/results.md"
    ),
    catalog: Annotated[
        bool, typer.Option("--catalog", help="First write the results of all judged units in the store.")
    ] = False,
    root: Root = None,
) -> None:
    """Table 1 and its figures as a page, from the files of `cog reproduce` alone, or from the catalog."""
    from trainers.page import write_page
    from trainers.results import read_results
    from trainers.table import verdicts

    if root is not None and not catalog:
        raise CogError(f"--root is read with --catalog alone: the page is made from the files in {results}")
    if catalog:
        _results_of_catalog(_store(root), results)
    page = write_page(read_results(results), results, out)
    for block in page.tables:
        say(f"{block.task}, {block.obs}, preset {block.preset}: {', '.join(block.methods)}")
    found = [verdict for verdict in verdicts(page.tables) if verdict.met is not None]
    met = sum(bool(one.met) for one in found)
    say(f"{met} of {len(found)} targets met · {page.file} with {len(page.figures)} figures")


def _results_of_catalog(store: Store, results: Path) -> None:
    """Write the result of every unit that SQL finds judged; what a file says beyond that is kept."""
    from catalog.query import run_query
    from cogdata.runs import read_run
    from trainers.reproduce import result_of_run, unit_of_run
    from trainers.results import write_result

    sql = (
        "select run from runs where method is not null and run in (select run from evaluations) order by run"
    )
    for run in run_query(store, sql).table.column("run").to_pylist():
        unit = unit_of_run(read_run(store, run))
        if unit is None or (results / f"{unit.name}.json").exists():
            continue
        if (result := result_of_run(store, unit, run)) is not None:
            say(str(write_result(results, result)))


# --- demo ------------------------------------------------------------------------------------------------

DEMO_ENVS = ("cog/PickTray-v0", "cog/PlaceTray-v0")
DEMO_METHODS = {"bc": "behaviour cloning", "bfn": "COG, best of N in sample"}


@app.command("demo")
def demo_command(
    prior: Annotated[int, typer.Option(help="Weak grasps to collect.")] = 2000,
    task: Annotated[int, typer.Option(help="Placements to collect.")] = 1000,
    episodes: Annotated[int, typer.Option(help="To judge each method on, per environment.")] = 100,
    steps: Annotated[
        int | None, typer.Option(help="Gradient updates of each method; else the preset's.")
    ] = None,
    workers: Annotated[str, typer.Option(help="Processes: a number, or auto for one per core.")] = "auto",
    seed: Seed = 0,
    root: Annotated[str, typer.Option("--root", help="Store to fill.")] = "cog-demo",
) -> None:
    """From nothing to a judged policy: collect, freeze place_in_tray, train, judge, report."""
    from catalog.mixture import freeze
    from catalog.recipes import RECIPES, recipe_sql
    from cogdata.machine import usable_cores
    from cogdata.manifest import read_manifest
    from collectors.collect import plan, request
    from trainers.algos import configure
    from trainers.request import TrainRequest

    _check_steps(steps)
    began, store, count, chosen = time.monotonic(), _store(root), _workers(workers), _seeds(None, episodes)
    for policy, wanted in (("weak_grasp", prior), ("place", task)):
        planned = plan(store, request(policy, root_seed=seed), wanted)
        say(f"collecting {planned.missing:,} episodes of {policy} in {planned.asked.env}")
        _collect(store, planned, _local_engine(count))
    name = "place_in_tray"
    frozen = freeze(store, name, recipe_sql(name), weights=RECIPES[name].weights)
    _say_frozen(frozen)
    manifest = read_manifest(store, frozen.info.ref)
    judged = []
    for algo in DEMO_METHODS:
        config = configure(algo, "fast", [f"updates={steps}"] if steps is not None else [])
        run, _ = _train(
            store, manifest, TrainRequest(algo, config, "fast", "state", seed, "cpu", usable_cores())
        )
        judged += [
            (algo, _evaluate(store, run, env, chosen, update=None, workers=count, record=0))
            for env in DEMO_ENVS
        ]
    _index(store)
    _demo_report(store, manifest, judged, time.monotonic() - began)


def _demo_report(store: Store, manifest: Any, judged: list[tuple[str, Any]], seconds: float) -> None:  # noqa: ANN401
    from trainers.lineage import lineage, sheets
    from trainers.report import Report, Score, render, text_table
    from trainers.runlog import read_metrics

    scores = [
        Score(
            found.run, DEMO_METHODS[algo], found.rows["env"][0].as_py(), found.successes, found.rows.num_rows
        )
        for algo, found in judged
    ]
    runs = list(dict.fromkeys(score.run for score in scores))
    report = Report(
        title="Place in tray: two skills joined that nobody ever showed together",
        summary=(
            f"Weak grasps without reward and placements that start in the gripper, in one mixture; state "
            f"observations; judged on {scores[0].episodes} scenes per start. The command took "
            f"{seconds / 60:.1f} minutes."
        ),
        scores=scores,
        sheets=sheets(store, manifest),
        curves={run: read_metrics(store, run) for run in runs},
        lineage=lineage(store, manifest, [found for _, found in judged]),
    )
    store.write_text("report.html", render(report))
    figures = [vars(score) | {"rate": score.rate} for score in scores]
    store.write_text("report.json", json.dumps({"seconds": round(seconds), "scores": figures}, indent=2))
    say()
    say(text_table(scores))
    say()
    say(f"{seconds / 60:.1f} minutes · {store.path('report.html')}")


# --- entry -----------------------------------------------------------------------------------------------


def _mistake(error: typer.TyperException) -> str:
    """What is wrong with a command line, and what to type."""
    text, context = error.format_message().rstrip("."), getattr(error, "ctx", None)
    if context is None:
        return text
    if not text.startswith("Missing"):
        return f"{text}: see `{context.command_path} --help`"
    typed = [
        f"{parameter.opts[0]} {parameter.name.upper()}" if parameter.opts[0].startswith("-")
        else parameter.name.upper()
        for parameter in context.command.params
        if parameter.required
    ]  # fmt: skip
    return f"{text}: type `{' '.join([context.command_path, *typed])}`, see `{context.command_path} --help`"


def _typed(word: str) -> str:
    """SQL that begins with a comment is no option: no option's name has a space in it."""
    return f" {word}" if word.startswith("--") and len(word.partition("=")[0].split()) > 1 else word


def main() -> None:
    """Run the command line; every error of the user's is one line on stderr."""
    try:
        answer_ctrl_c()
        code = app([_typed(word) for word in sys.argv[1:]], prog_name="cog", standalone_mode=False)
    except CogError as error:
        note(f"error: {error}")
        sys.exit(1)
    except typer.TyperException as error:
        text = error.format_message()
        note(text if "Usage:" in text else f"error: {_mistake(error)}")  # a bare group prints its help
        sys.exit(2)
    except (KeyboardInterrupt, typer.Abort):
        note("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        note(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}")
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
