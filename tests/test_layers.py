"""The layering rule, over every import statement of the packages."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAY_IMPORT = {
    "cogdata": {"cogdata"},
    "catalog": {"cogdata", "catalog"},
    "collectors": {"cogdata", "collectors"},
    "trainers": {"cogdata", "trainers"},
    "commands": {"cogdata", "catalog", "collectors", "trainers", "commands"},
}
OURS = {*MAY_IMPORT, "cli", "tests"}
FORBIDDEN_OUTSIDE = {
    "cogdata": {"torch", "duckdb", "pybullet"},
    "catalog": {"torch", "pybullet"},
    "collectors": {"torch", "duckdb"},
    "trainers": {"duckdb", "pybullet"},
    "commands": {"duckdb", "pybullet"},
}


def _imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at top level or inside a function.

    Of ``from catalog.index import migrations`` these are ``catalog.index`` and, as it is a module,
    ``catalog.index.migrations``.
    """
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            module = node.module or ""
            yield module
            yield from (name for alias in node.names if _exists(name := f"{module}.{alias.name}"))


def _exists(module: str) -> bool:
    """Whether a file of this project is that module."""
    path = ROOT.joinpath(*module.split("."))
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


def _files(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_its_layer_may(package: str) -> None:
    files = _files(package)
    assert len(files) > 3
    for path in files:
        tops = {name.split(".")[0] for name in _imports(path)}
        assert tops & OURS <= MAY_IMPORT[package], path
        assert not tops & FORBIDDEN_OUTSIDE[package], path


def test_a_module_imported_from_its_package_is_seen() -> None:
    assert "catalog.index.migrations" in set(_imports(ROOT / "catalog" / "index" / "db.py"))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_inside_a_package_imports_have_an_order(package: str) -> None:
    modules = {_module(path): path for path in _files(package)}
    left = {
        name: {used for used in _imports(path) if used in modules and used != name}
        for name, path in modules.items()
    }
    while left:
        free = [name for name, used in left.items() if not used & left.keys()]
        assert free, f"import cycle among {sorted(left)}"
        left = {name: used for name, used in left.items() if name not in free}


MOST_MODULES = 15
LONGEST_FUNCTION = 80
USUAL_FUNCTION = 30
"""Lines that nine of ten functions of a package do not exceed."""


def _folders(package: str) -> list[Path]:
    return sorted({path.parent for path in _files(package)})


def _room(folder: Path, path: Path) -> str:
    """The module or sub-folder of a folder that a file belongs to."""
    return path.relative_to(folder).with_suffix("").parts[0]


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_modules_and_subfolders_of_a_folder_have_an_order(package: str) -> None:
    """Seen from outside a sub-folder is one thing: what it imports may not import it."""
    modules = {_module(path): path for path in _files(package)}
    for folder in _folders(package):
        inside = [
            path for path in modules.values() if path.is_relative_to(folder) and path.stem != "__init__"
        ]
        left: dict[str, set[str]] = {_room(folder, path): set() for path in inside}
        for path in inside:
            used = {_room(folder, modules[name]) for name in _imports(path) if modules.get(name) in inside}
            left[_room(folder, path)] |= used - {_room(folder, path)}
        while left:
            free = [room for room, used in left.items() if not used & left.keys()]
            assert free, f"{folder}: import cycle among {sorted(left)}"
            left = {room: used for room, used in left.items() if room not in free}


@pytest.mark.parametrize("package", [*MAY_IMPORT, "bench", "tests"])
def test_no_folder_holds_more_modules_than_one_can_overlook(package: str) -> None:
    for folder in _folders(package):
        modules = [path for path in folder.glob("*.py") if path.stem != "__init__"]
        assert len(modules) <= MOST_MODULES, folder


def _lengths(package: str) -> dict[str, int]:
    """Function → its lines; the option lists of commands do not count."""
    lengths: dict[str, int] = {}
    for path in _files(package):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
                first = node.lineno
                if any("Annotated[" in ast.unparse(one) for one in node.args.args):
                    first = node.body[0].lineno
                lengths[f"{path.relative_to(ROOT)}:{node.name}"] = node.end_lineno - first + 1
    return lengths


@pytest.mark.parametrize("package", [*MAY_IMPORT, "bench"])
def test_functions_are_short(package: str) -> None:
    lengths = _lengths(package)
    assert max(lengths.values()) <= LONGEST_FUNCTION, max(lengths, key=lambda name: lengths[name])
    over = {name: lines for name, lines in lengths.items() if lines > USUAL_FUNCTION}
    assert len(over) <= len(lengths) / 10, over


_RUN = """
import sys, importlib
for name in {hidden!r}:
    sys.modules[name] = None
for name in {modules!r}:
    importlib.import_module(name)
"""


@pytest.mark.parametrize(
    ("packages", "hidden"),
    [
        (("cogdata", "trainers"), ("pybullet", "pybullet_utils", "duckdb")),
        (("cogdata", "collectors"), ("torch", "duckdb")),
        (("cogdata", "catalog"), ("torch", "pybullet")),
    ],
)
def test_each_side_imports_where_the_libraries_of_the_others_are_absent(
    packages: tuple[str, ...], hidden: tuple[str, ...]
) -> None:
    modules = [_module(path) for package in packages for path in _files(package)]
    code = _RUN.format(hidden=hidden, modules=modules)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr


_READ = """
import sys
for name in {hidden!r}:
    sys.modules[name] = None
import json, pathlib
from tests.golden.core import files_read
print(json.dumps(files_read(pathlib.Path({root!r}))))
"""
NOT_FOR_READING = (
    "torch", "duckdb", "pybullet", "pybullet_utils", "polars", "cv2", "gymnasium", "matplotlib", "jinja2",
    "tensorboard", "typer", "rich", "safetensors", "webdataset", "catalog", "collectors", "trainers", "commands",
)  # fmt: skip


def test_episodes_and_batches_are_read_by_numpy_and_pyarrow_alone() -> None:
    golden = ROOT / "tests" / "golden" / "v1"
    code = _READ.format(hidden=NOT_FOR_READING, root=str(golden / "store"))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    expected = json.loads((golden / "expected.json").read_text())
    found = json.loads(done.stdout)
    assert len(found["digests"]) > 2
    assert len(found["batches"]) > 1
    assert found == {name: expected[name] for name in ("digests", "mixtures", "batches")}


def test_only_the_command_line_prints() -> None:
    for package in MAY_IMPORT:
        for path in _files(package):
            calls = [n.func for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call)]
            assert not [c for c in calls if isinstance(c, ast.Name) and c.id == "print"], path
