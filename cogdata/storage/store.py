"""The store: a folder or an fsspec URL. Every file in it appears whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.implementations.local import LocalFileSystem

from cogdata.errors import CogError, UnreachableError

DEFAULT_ROOT: Final = "cog-store"
ROOT_VARIABLE: Final = "COG_ROOT"

_URL: Final = re.compile(r"[A-Za-z0-9+.-]+(::[A-Za-z0-9+.-]+)*://")
"""How an fsspec URL begins; everything else is a path of this machine, whatever characters it has."""

_PATTERN: Final = re.compile(r"[*?\[]")

_LEFTOVER_S: Final = 3600

_S3: Final = {
    "use_listings_cache": False,  # other machines write too
    "config_kwargs": {
        "connect_timeout": 5,
        "read_timeout": 10,
        "retries": {"total_max_attempts": 3, "mode": "standard"},
    },
}
"""How S3 is spoken to where ``FSSPEC_S3`` says nothing else: a silent server is given up within a minute."""

_TRIES: Final = 2
"""How often s3fs begins a request, each time with the attempts above; its own default is 5."""

for _key, _value in _S3.items():
    fsspec.config.conf.setdefault("s3", {}).setdefault(_key, _value)

_SAID: Final = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EROFS: "the file system is read-only: choose another store with --root",
    errno.EACCES: "permission denied: choose another store with --root",
    errno.EPERM: "operation not permitted: choose another store with --root",
}

_HINTS: Final = {
    "NoCredentialsError": "no credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE",
    "NoSuchBucket": "there is no such bucket: create it, or name another store with --root",
    "InvalidAccessKeyId": "the access key is unknown there: check AWS_ACCESS_KEY_ID and AWS_ENDPOINT_URL",
    "SignatureDoesNotMatch": "the secret key is wrong: check AWS_SECRET_ACCESS_KEY",
}
"""What a user can do, by the class of an error or the code that S3 sent."""


def _reason(error: Exception) -> str:
    """What a file system's error means, in one line."""
    response = getattr(error.__cause__, "response", None)
    code = response.get("Error", {}).get("Code", "") if isinstance(response, dict) else ""
    if hint := _HINTS.get(type(error).__name__) or _HINTS.get(code):
        return hint
    said = _SAID.get(error.errno or 0, error.strerror or str(error)) if isinstance(error, OSError) else ""
    return " ".join((said or str(error) or type(error).__name__).split())


def write_failed(url: str, error: Exception) -> CogError:
    """Turn a failed write into the line a user can act on.

    Args:
        url: What was being written.
        error: What the system said.
    """
    return CogError(f"cannot write {url}: {_reason(error)}")


def is_url(root: str) -> bool:
    """Whether a root is an fsspec URL, not a path of this machine."""
    return _URL.match(root) is not None


def _check_text(root: str) -> None:
    """Refuse a path that is not UTF-8: Arrow, DuckDB and JSON hold texts, not bytes."""
    try:
        root.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(root).decode(errors="backslashreplace")
        raise CogError(f"store '{shown}' has bytes that are not UTF-8: choose another name") from None


@dataclass(frozen=True)
class Store:
    """Files under one root, named by paths relative to it ("collections/x/collection.json").

    Attributes:
        url: Absolute path of a local folder, or an fsspec URL ("s3://bucket/prefix").
    """

    url: str
    _fs: Any = field(init=False, repr=False, compare=False)
    _base: str = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Resolve the URL to a file system and a base path on it."""
        _check_text(self.url)
        try:  # fsspec takes "::" in a path for a chain of URLs
            fs, base = (
                fsspec.core.url_to_fs(self.url)
                if is_url(self.url)
                else (LocalFileSystem(), str(Path(self.url).absolute()))
            )
        except (ValueError, ImportError) as error:
            raise CogError(f"store {self.url!r} cannot be opened: {error}") from None
        if "s3" in fs.protocol:
            fs.retries = _TRIES
        object.__setattr__(self, "_fs", fs)
        object.__setattr__(self, "_base", base.rstrip("/"))
        if self.is_local:
            object.__setattr__(self, "url", self._base)

    def __reduce__(self) -> tuple[type[Store], tuple[str]]:
        """Travel to another process as the URL alone: no connection, no credentials."""
        return Store, (self.url,)

    @property
    def filesystem(self) -> tuple[Any, str]:
        """The fsspec file system, and the path of the store on it without a slash at the end."""
        return self._fs, self._base

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def path(self, name: str) -> str:
        """Return the absolute path (local) or full URL of a file in the store."""
        return f"{self._base}/{name}" if self.is_local else self._fs.unstrip_protocol(f"{self._base}/{name}")

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        with self._explained("read", name):
            return bool(self._fs.exists(f"{self._base}/{name}"))

    def list_folders(self, name: str) -> list[str]:
        """Return the names of the folders directly under a folder, sorted; [] if it does not exist."""
        return self._list(name, "directory")

    def list_files(self, name: str) -> list[str]:
        """Return the names of the files directly under a folder, sorted; [] if it does not exist."""
        return self._list(name, "file")

    def list_folders_with(self, name: str, file: str) -> list[str]:
        """Return the names of the folders directly under a folder that hold a file of that name, sorted.

        An object store is asked once for everything below, not once for each folder.
        """
        if self.is_local:
            return [entry for entry in self.list_folders(name) if self.exists(f"{name}/{entry}/{file}")]
        with self._explained("read", name):
            found = self._fs.find(f"{self._base}/{name}")
        ends = (path.removeprefix(f"{self._base}/{name}/").split("/") for path in map(str, found))
        return sorted(parts[0] for parts in ends if len(parts) == 2 and parts[1] == file)

    def list_below(self, name: str) -> list[str]:
        """Return the paths of all files below a folder, relative to it, sorted; [] if it does not exist."""
        folder = f"{self._base}/{name}".rstrip("/")
        with self._explained("read", name):
            found = map(str, self._fs.find(folder))
        return sorted(path.removeprefix(f"{folder}/") for path in found if path != folder)

    def check(self) -> None:
        """Ask a remote store for anything at all.

        Raises:
            CogError: It cannot be reached, there is no such bucket, or it does not let us in.
        """
        if not self.is_local:
            self.list_files("")

    @contextmanager
    def _explained(self, verb: str, name: str) -> Iterator[None]:
        """Turn a failed write, and whatever the library of a remote file system raises, into one line."""
        try:
            yield
        except CogError:
            raise
        except Exception as error:
            if self.is_local and (verb == "read" or not isinstance(error, OSError)):
                raise
            kind = UnreachableError if verb == "read" else CogError
            raise kind(f"cannot {verb} {self.path(name)}: {_reason(error)}") from None

    def _list(self, name: str, kind: str) -> list[str]:
        with self._explained("read", name):
            try:
                entries = self._fs.ls(f"{self._base}/{name}".rstrip("/"), detail=True, refresh=True)
            except FileNotFoundError as error:
                if error.__cause__ is not None and _reason(error) in _HINTS.values():
                    raise
                return []
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == kind)

    def read_bytes(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or ``size`` bytes of it from ``offset``.

        Raises:
            CogError: The file is missing, or shorter than asked for.
        """
        with self._explained("read", name):
            data = self._cat(name, offset, None if size is None else offset + size)
        if size is not None and len(data) != size:
            raise CogError(
                f"{self.path(name)} is truncated: {size} bytes at {offset} wanted, {len(data)} found; "
                f"`cog data verify` says what to do"
            )
        return data

    def _cat(self, name: str, start: int, end: int | None) -> bytes:
        try:
            data: bytes = self._fs.cat_file(f"{self._base}/{name}", start=start, end=end)
        except FileNotFoundError:
            raise CogError(f"{self.path(name)} is missing: run `cog data verify`") from None
        except OSError as error:
            if end is None or error.errno != errno.EINVAL:
                raise
            return b""  # S3 refuses a range that begins behind the end
        return data

    def read_text(self, name: str) -> str:
        """Read a UTF-8 text file."""
        return self.read_bytes(name).decode()

    def read_table(self, name: str) -> pa.Table:
        """Read a Parquet file."""
        # not pq.read_table: its threads let go of our bytes later, perhaps when the interpreter has ended
        return pq.ParquetFile(pa.BufferReader(self.read_bytes(name))).read()

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        with self._explained("read", name):
            return int(self._fs.size(f"{self._base}/{name}"))

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file so that readers see the old one or the whole new one.

        Raises:
            CogError: It cannot be written (full disk, read-only store, no permission).
        """
        target = f"{self._base}/{name}"
        with self._explained("write", name):
            if self.is_local:
                _replace(Path(target), data)
            else:  # there one request either makes the whole file or nothing
                self._fs.pipe_file(target, bytes(data))

    def create_text(self, name: str, text: str) -> bool:
        """Write a UTF-8 text file, whole, unless there is one; of two machines that try, one succeeds.

        Returns:
            Whether the file is ours.

        Raises:
            CogError: It cannot be written.
        """
        target = f"{self._base}/{name}"
        with self._explained("write", name), suppress(FileExistsError):
            if self.is_local:
                _replace(Path(target), text.encode(), onto=_link)
            else:
                self._fs.pipe_file(target, text.encode(), mode="create")
            return True
        return False

    def write_text(self, name: str, text: str) -> None:
        """Write a UTF-8 text file, as :meth:`write_bytes`."""
        self.write_bytes(name, text.encode())

    def write_table(self, name: str, table: pa.Table, **options: Any) -> None:  # noqa: ANN401
        """Write a Parquet file (zstd), as :meth:`write_bytes`; options go to ``pq.write_table``."""
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, **({"compression": "zstd"} | options))
        self.write_bytes(name, memoryview(sink.getvalue()))

    def sweep(self, name: str) -> int:
        """Remove what writes cut off over an hour ago left under a folder; return how many files."""
        if not self.is_local:
            return 0
        oldest = time.time() - _LEFTOVER_S
        swept = 0
        for path in Path(self.path(name)).rglob(".*.tmp"):
            with suppress(FileNotFoundError):  # a writer of now has just renamed it
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    swept += 1
        return swept

    def remove(self, name: str) -> None:
        """Remove a file or a whole folder; nothing happens if it does not exist."""
        target = f"{self._base}/{name}"
        with self._explained("write", name):
            if not self.is_local and _PATTERN.search(target):
                for path in self._fs.find(target):  # fsspec takes a path to remove for a pattern
                    self._fs.rm_file(path)
            elif self._fs.exists(target):
                self._fs.rm(target, recursive=True)


_NO_LINKS: Final = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What file systems without hard links say (exFAT, some network mounts)."""


def _rename(temporary: Path, target: Path) -> None:
    temporary.replace(target)


def _link(temporary: Path, target: Path) -> None:
    """Give a file its name, unless there is one of that name: FileExistsError."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if target.exists():  # as good as it gets there: whole, but two at the same moment may both succeed
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        temporary.replace(target)
    else:
        temporary.unlink()


def _replace(target: Path, data: bytes | memoryview, onto: Callable[[Path, Path], None] = _rename) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        onto(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_store(root: str | None = None) -> Store:
    """Open the store that the user means: ``root``, else ``$COG_ROOT``, else ``./cog-store``.

    Args:
        root: Folder or fsspec URL.

    Raises:
        CogError: The URL cannot be understood, the path is a file, or a remote store does not answer.
    """
    url = root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT
    _check_text(url)
    if not is_url(url):
        try:
            path = Path(url).expanduser().resolve()
        except RuntimeError:
            raise CogError(f"store {url!r}: there is no such user, type ./{url} for a folder") from None
        if path.exists() and not path.is_dir():
            raise CogError(f"store {path} is a file: name a folder with --root")
        url = str(path)
    store = Store(url)
    store.check()
    return store
