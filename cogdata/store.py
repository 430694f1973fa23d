"""The store: a folder or an fsspec URL. Every file in it appears whole or not at all."""

from __future__ import annotations

import errno
import os
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from cogdata.errors import CogError

DEFAULT_ROOT: Final = "cog-store"
ROOT_VARIABLE: Final = "COG_ROOT"

_LEFTOVER_S: Final = 3600

_SAID: Final = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again",
    errno.EROFS: "the file system is read-only: choose another store with --root",
    errno.EACCES: "permission denied: choose another store with --root",
    errno.EPERM: "operation not permitted: choose another store with --root",
}


def write_failed(url: str, error: OSError) -> CogError:
    """Turn a failed write into the line a user can act on.

    Args:
        url: What was being written.
        error: What the system said.
    """
    reason = _SAID.get(error.errno or 0, error.strerror or str(error))
    return CogError(f"cannot write {url}: {reason}")


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
        try:
            fs, base = fsspec.core.url_to_fs(self.url)
        except (ValueError, ImportError) as error:
            raise CogError(f"store {self.url!r} cannot be opened: {error}") from None
        object.__setattr__(self, "_fs", fs)
        object.__setattr__(self, "_base", base.rstrip("/"))
        if self.is_local:
            object.__setattr__(self, "url", self._base)

    @property
    def is_local(self) -> bool:
        """Whether the store is a folder of this machine."""
        return "file" in (self._fs.protocol if isinstance(self._fs.protocol, tuple) else (self._fs.protocol,))

    def path(self, name: str) -> str:
        """Return the absolute path (local) or full URL of a file in the store."""
        return f"{self._base}/{name}" if self.is_local else self._fs.unstrip_protocol(f"{self._base}/{name}")

    def exists(self, name: str) -> bool:
        """Whether there is such a file or folder."""
        return bool(self._fs.exists(f"{self._base}/{name}"))

    def list_folders(self, name: str) -> list[str]:
        """Return the names of the folders directly under a folder, sorted; [] if it does not exist."""
        return self._list(name, "directory")

    def list_files(self, name: str) -> list[str]:
        """Return the names of the files directly under a folder, sorted; [] if it does not exist."""
        return self._list(name, "file")

    def _list(self, name: str, kind: str) -> list[str]:
        try:
            entries = self._fs.ls(f"{self._base}/{name}", detail=True, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(entry["name"].rsplit("/", 1)[-1] for entry in entries if entry["type"] == kind)

    def read_bytes(self, name: str, offset: int = 0, size: int | None = None) -> bytes:
        """Read a file, or ``size`` bytes of it from ``offset``.

        Raises:
            CogError: The file is missing, or shorter than asked for.
        """
        end = None if size is None else offset + size
        try:
            data: bytes = self._fs.cat_file(f"{self._base}/{name}", start=offset, end=end)
        except FileNotFoundError:
            raise CogError(f"{self.path(name)} is missing: run `cog data verify`") from None
        if size is not None and len(data) != size:
            raise CogError(
                f"{self.path(name)} is truncated: {size} bytes at {offset} wanted, {len(data)} found"
            )
        return data

    def read_text(self, name: str) -> str:
        """Read a UTF-8 text file."""
        return self.read_bytes(name).decode()

    def read_table(self, name: str) -> pa.Table:
        """Read a Parquet file."""
        return pq.read_table(pa.BufferReader(self.read_bytes(name)))

    def size(self, name: str) -> int:
        """Return the size of a file in bytes."""
        return int(self._fs.size(f"{self._base}/{name}"))

    def write_bytes(self, name: str, data: bytes | memoryview) -> None:
        """Write a file so that readers see the old one or the whole new one.

        Raises:
            CogError: It cannot be written (full disk, read-only store, no permission).
        """
        target = f"{self._base}/{name}"
        try:
            if self.is_local:
                _replace(Path(target), data)
            else:
                self._fs.pipe_file(target, bytes(data))
        except OSError as error:
            raise write_failed(self.path(name), error) from None

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
        try:
            if self._fs.exists(target):
                self._fs.rm(target, recursive=True)
        except OSError as error:
            raise write_failed(self.path(name), error) from None


def _replace(target: Path, data: bytes | memoryview) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def open_store(root: str | None = None) -> Store:
    """Open the store that the user means: ``root``, else ``$COG_ROOT``, else ``./cog-store``.

    Args:
        root: Folder or fsspec URL.

    Raises:
        CogError: The URL cannot be understood, or the path is a file.
    """
    url = root or os.environ.get(ROOT_VARIABLE) or DEFAULT_ROOT
    if "://" not in url:
        path = Path(url).expanduser().resolve()
        if path.exists() and not path.is_dir():
            raise CogError(f"store {path} is a file: name a folder with --root")
        url = str(path)
    return Store(url)
