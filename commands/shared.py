"""What commands share: printing, checking what was typed, finding store and mixture."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from cogdata.errors import CogError, unknown

if TYPE_CHECKING:
    from cogdata.storage.store import Store
    from cogdata.storage.transfer import Copied

CLI: Final = str(Path(__file__).parent.parent / "cli.py")
"""What a command runs to run another one as a process of its own."""

Root = Annotated[
    str | None, typer.Option("--root", help="Store: a folder or URL; else $COG_ROOT, else ./cog-store")
]
Format = Annotated[str, typer.Option(help="table, json, jsonl, csv or parquet.")]
Seed = Annotated[int, typer.Option(help="Root of every random stream.")]
EngineName = Annotated[str, typer.Option("--engine", help="local: this machine; ray: a Ray cluster.")]
Address = Annotated[
    str | None, typer.Option(help="Ray cluster, HOST:PORT or auto; else $RAY_ADDRESS, else one of its own.")
]
Results = Annotated[Path, typer.Option(help="Folder of the JSON files, one per experiment.")]
RESULTS = Path("results/table1")

INTERRUPTED = 130
MOST_EPISODES = 1_000_000


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


def open_root(root: str | None) -> Store:
    """Open the store that is meant."""
    from cogdata.storage.store import open_store

    return open_store(root)


def root_option(root: str | None) -> str:
    """What a command to type next needs in order to mean the same store."""
    return "" if root is None else f" --root {shlex.quote(root)}"


def check_fraction(scale: float) -> None:
    """Refuse a fraction of the paper's episodes that cannot be meant."""
    if not 0 < scale <= 10:
        raise CogError(f"--scale is {scale:g}, must be more than 0 and at most 10; 1 is the paper's number")


def worker_count(text: str, *, one_robot: bool = False, option: str = "--workers") -> int:
    """Read a number of processes; "auto" is one per core, of a robot one."""
    from cogdata.system.machine import usable_cores

    if text == "auto":
        return 1 if one_robot else usable_cores()
    try:
        count = int(text)
    except ValueError:
        count = 0
    if count < 1:
        raise CogError(f"{option} is {text}, must be a whole number of at least 1, or auto")
    return count


def env_options(pairs: list[str] | None) -> dict[str, Any]:
    """Read KEY=VALUE texts; a value is JSON, or else a text.

    Raises:
        CogError: One has no key.
    """
    found: dict[str, Any] = {}
    for pair in pairs or []:
        name, equals, text = pair.partition("=")
        if not equals or not name.isidentifier():
            raise CogError(f"--env-option {pair!r} must be KEY=VALUE, for example render_size=64")
        try:
            found[name] = json.loads(text, parse_constant=lambda constant: constant)
        except ValueError:
            found[name] = text
    return found


def options_json(pairs: list[str] | None) -> str:
    """Read KEY=VALUE texts as `collectors.collect.request` writes them; "": there are none.

    Raises:
        CogError: One has no key.
    """
    options = env_options(pairs)
    return json.dumps(options, sort_keys=True) if options else ""


def check_success_return(value: float | None) -> None:
    """Refuse a sum of rewards that is no number.

    Raises:
        CogError: It is none.
    """
    if value is not None and not math.isfinite(value):
        raise CogError(f"--success-return is {value}, must be a finite number")


def wants_ray(engine: str, address: str | None, *envs: str) -> bool:
    """Whether the engine is Ray; refuses what does not go together."""
    from collectors.drivers import is_driver

    if engine not in ("local", "ray"):
        raise unknown("engine", engine, ("local", "ray"))
    if address is not None and engine != "ray":
        raise CogError("--address names a Ray cluster: add --engine ray")
    if engine == "ray" and (robots := [env for env in envs if is_driver(env)]):
        raise CogError(f"{robots[0]} is a robot at this machine: leave --engine ray out")
    return engine == "ray"


@contextlib.contextmanager
def ending_on_request(stop: Callable[[], None]) -> Iterator[Callable[[], bool]]:
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


def print_table(table: Any) -> None:  # noqa: ANN401 - a pyarrow table, imported lazily
    """Print rows for reading."""
    print_listing(table, "table", "")


def print_listing(table: Any, format: str, empty: str) -> None:  # noqa: ANN401 - a pyarrow table, lazily
    """Print rows; if there are none, say so where it is not taken for a row."""
    from catalog.output import write_result

    if not table.num_rows and empty:
        note(empty)
    if table.num_rows or format != "table" or not empty:
        write_result(table, format, sys.stdout.buffer)


def say_frozen(report: Any) -> None:  # noqa: ANN401 - a FreezeReport, imported lazily
    """Say what was frozen, source by source."""
    info = report.info
    say(
        f"{info.ref} {'frozen' if report.created else 'has this content already'} · digest {info.digest[:12]}"
    )
    if report.moved:
        say(f"  {report.moved:,} episodes were collected again elsewhere and are found there now")
    for asked in info.selection.told():
        say(f"  {asked}")
    for name, why in info.left_out.items():
        say(f"  left out: {name} {why}")
    if info.unfollowed:
        say(f"  left out: {info.unfollowed:,} transitions, because the observation after them is unknown")
    for source, counts in sorted(info.counts.items()):
        share = f" · {info.weights[source]:.1%} of every batch" if info.weights else ""
        say(
            f"  {source}: {counts.episodes:,} episodes, {counts.transitions:,} transitions, rewarded "
            f"{counts.rewarded_before:,} as collected, {counts.rewarded_after:,} as frozen{share}"
        )


def rate_of(successes: int, episodes: int) -> str:
    """A success rate as every command prints it: count, rate, 95 % Wilson interval."""
    from cogdata.intervals import wilson

    low, high = wilson(successes, episodes)
    return f"{successes}/{episodes} = {successes / episodes:.3f} [{low:.3f}, {high:.3f}]"


def check_scale(scale: int | None) -> None:
    """Refuse an enlargement of pictures that cannot be meant."""
    if scale is not None and not 1 <= scale <= 16:
        raise CogError(f"--scale is {scale}, must be from 1 to 16: how often a pixel is repeated")


def write_picture(file: Path, data: bytes) -> None:
    """Write a picture and say where."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    except OSError as error:
        raise CogError(f"cannot write {file} ({error.strerror or error}): name another with --out") from None
    say(str(file))


def listed(text: str | None) -> list[str]:
    """Split names that were typed with commas between them; None: none were typed.

    Raises:
        CogError: A name is empty, or there twice.
    """
    names = [] if text is None else [name.strip() for name in text.split(",")]
    if "" in names:
        raise CogError(f"{text!r} must be names with commas between them, for example image,robot")
    if double := next((name for name in names if names.count(name) > 1), None):
        raise CogError(f"{text!r} names {double} twice: say it once")
    return names


def pairs(option: str, texts: Sequence[str] | None, example: str) -> dict[str, str]:
    """Split ``NAME=VALUE`` texts of an option that may be given several times.

    Raises:
        CogError: One of them is something else, or names a thing twice.
    """
    found: dict[str, str] = {}
    for text in texts or ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise CogError(f"{option} {text!r} must be NAME=VALUE, for example {option} {example}")
        if name in found:
            raise CogError(f"{option} names {name!r} twice: say it once")
        found[name] = value
    return found


def or_default(value: str | None, default: str) -> str:
    """Return the value, or the default if it is None."""
    return default if value is None else value


def natural(option: str, value: int) -> int:
    """Check that a number fits SQL's BIGINT and is not negative."""
    if not 0 <= value < 2**63:
        raise CogError(f"{option} is {value}, must be from 0 to 2^63 - 1")
    return value


def countable(option: str, value: int) -> int:
    """Check that there may be so many of something that is listed one by one."""
    if not 1 <= value <= MOST_EPISODES:
        raise CogError(f"{option} is {value}, must be from 1 to {MOST_EPISODES:,}")
    return value


def frozen_mixture(store: Store, ref: str) -> str:
    """Resolve a mixture; a recipe is frozen if there is none of its name and the catalog is installed."""
    from cogdata.storage.manifest import list_versions, parse_ref

    name, _ = parse_ref(ref)
    if list_versions(store, name):
        note_changed_recipe(store, ref)
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


def note_changed_recipe(store: Store, ref: str) -> None:
    """Remark that a mixture is what its recipe was in an earlier version, if the catalog is installed."""
    with contextlib.suppress(ModuleNotFoundError):
        from catalog.recipes import changed_since

        if line := changed_since(store, ref):
            note(line)


def note_unread(unread: Sequence[str]) -> None:
    """Remark that files of the store could not be read, so that what was just said says nothing of them."""
    if unread:
        note(f"{len(unread)} files of the store could not be read and do not count, the first: {unread[0]}")


def update_catalog(store: Store) -> None:
    """Bring the catalog up to date where it is installed; the next command does it otherwise."""
    with contextlib.suppress(ModuleNotFoundError):
        from catalog.index.sync import try_sync

        try_sync(store)


def say_copied(copied: Copied, target: Store) -> None:
    """Say what a copy wrote."""
    there = f", {copied.there:,} were there" if copied.there else ""
    say(f"{copied.files:,} files, {copied.size / 1e6:,.1f} MB copied to {target.url}{there}")


def seed_range(text: str | None, episodes: int | None) -> list[int]:
    """Read ``START:STOP``, or so many from 0; never too many."""
    if episodes is not None:
        countable("--episodes", episodes)
    if text is None:
        return list(range(episodes or 250))
    start, _, stop = text.partition(":")
    if not (start.isdecimal() and stop.isdecimal() and int(start) < int(stop)):
        raise CogError(f"--seeds {text!r} must be START:STOP, the first below the second, for example 0:3")
    natural("--seeds", int(stop))
    if int(stop) - int(start) > MOST_EPISODES:
        raise CogError(f"--seeds {text} are more than {MOST_EPISODES:,}: give fewer")
    chosen = list(range(int(start), int(stop)))
    if episodes is not None and episodes > len(chosen):
        raise CogError(f"--seeds {text} are {len(chosen)}, --episodes asks for {episodes}: give more seeds")
    return chosen[: episodes or None]
