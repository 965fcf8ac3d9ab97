"""The identity of the user's code: a module with everything it imports from its own tree, and the files it names.

Two texts that mean the same have the same digest: comments, docstrings and formatting do not count. A file that is
no code counts byte by byte, if a string in the code is its path from the folder of the code: `"vocab.txt"`.
"""

from __future__ import annotations

import ast
import os
import re
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctd.core.errors import StorageUnavailable
from ctd.core.facts import CodeFact
from ctd.core.fingerprints import digest_of, digest_of_bytes
from ctd.storage.contents import trouble

_SETTLED = 2.0  # seconds: what was first seen so is read again before, as two edits may fall into one tick

# Strings that may name a file; what is no code and bigger than this is told by its size and time alone.
_FILE = re.compile(r"\w[\w .-]*(/[\w .-]+)*\.\w{1,8}")
_MOST_BYTES = 16 << 20
_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class _Import:
    """One imported name, `level` dots up. `optional` is what may be a module or just something inside one."""

    name: str
    level: int = 0
    optional: str = ""  # the name after `from ... import`; `*` stands for every module of the package


@dataclass(frozen=True)
class _Source:
    """One file: what it means, what it imports, and what other files it may name."""

    digest: str
    imports: tuple[_Import, ...] = ()
    named: tuple[str, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class _Seen:
    identity: tuple[int, ...]
    since: float
    read_at: float
    source: _Source


def package_root(module: str) -> str:
    """The folder that a module's package lies in, the outermost one; its own folder if it is in no package."""
    folder = os.path.dirname(module)
    while os.path.isfile(f"{folder}/__init__.py") and folder != "/":
        folder = os.path.dirname(folder)
    return folder


class CodeReader:
    """Reads user modules. Files are parsed again only when they changed."""

    def __init__(self) -> None:
        self._seen: dict[str, _Seen] = {}

    def read(self, path: str) -> CodeFact:
        """The module and its own imports; what is wrong is said, not raised."""
        path = os.path.abspath(path)
        if not os.path.isfile(path):
            what = "is not a file" if os.path.exists(path) else "does not exist"
            return CodeFact("", (), f"module {path} {what}")
        tree = _Tree(path)
        sources: dict[str, _Source] = {}
        left = [path]
        while left:
            file = left.pop()
            if file not in sources:
                sources[file] = self._source(file)
                left += [found for said in sources[file].imports for found in tree.files(file, said)]
                left += tree.named(file, sources[file].named)
        problems = [sources[file].problem for file in (path, *sorted(sources)) if sources[file].problem]
        digest = digest_of(sorted((os.path.relpath(file, tree.root), s.digest) for file, s in sources.items()))
        own = sources[path].digest
        return CodeFact(digest, tuple(sorted(sources)), problems[0] if problems else "", own=own)

    def meaning(self, path: str) -> str:
        """What one file means, whatever it imports; its bytes where it cannot be parsed.

        Raises StorageUnavailable where it cannot be read.
        """
        source = self._source(path)
        if not source.digest:
            raise StorageUnavailable(source.problem, hint="Check the path, its rights and the disk.")
        return source.digest

    def _source(self, path: str) -> _Source:
        try:
            facts, now = os.stat(path), time.monotonic()
            identity = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns)
            seen = self._seen.get(path)
            same = seen is not None and seen.identity == identity
            if seen and same and seen.read_at - seen.since >= _SETTLED:
                return seen.source
            if path.endswith(".py"):
                source = _parse(path, Path(path).read_bytes())
            elif facts.st_size <= _MOST_BYTES:
                source = _Source(digest_of_bytes(Path(path).read_bytes()))
            else:
                source = _Source(f"{facts.st_size} bytes of {facts.st_mtime_ns}")
        except OSError as error:
            return _Source("", problem=trouble(path, error))
        self._seen[path] = _Seen(identity, seen.since if seen and same else now, now, source)
        return source


class _Tree:
    """The folders that a module's imports are looked for in: its own, and above it the root of its package."""

    def __init__(self, module: str) -> None:
        self.own = os.path.dirname(module)
        self.root = package_root(module)

    def files(self, importer: str, said: _Import) -> Iterator[str]:
        """The files of the tree that an import runs: packages on the way, the module, and what is taken from it."""
        for base in self._bases(importer, said.level):
            steps = said.name.split(".") if said.name else []
            place, inside = base, bool(said.level)
            if inside:
                yield from _init(place)
            for step in steps:
                place = f"{place}/{step}"
                found = [*_init(place), *_module(place)]
                inside = bool(found) or os.path.isdir(place)
                if not inside:
                    break
                yield from found
            if inside and said.optional:
                yield from _inside(place, said.optional)

    def named(self, file: str, names: tuple[str, ...]) -> list[str]:
        """The files of the tree that are there under these names."""
        folder = os.path.dirname(file)
        paths = (os.path.normpath(f"{folder}/{name}") for name in names)
        return [path for path in paths if path.startswith(f"{self.root}/") and os.path.isfile(path)]

    def _bases(self, importer: str, level: int) -> tuple[str, ...]:
        folder = os.path.dirname(importer)
        for _ in range(level - 1):
            folder = os.path.dirname(folder)
        if level:
            return (folder,) if f"{folder}/".startswith(f"{self.root}/") else ()
        return (self.own, self.root) if self.own != self.root else (self.own,)


def _init(folder: str) -> Iterator[str]:
    if os.path.isfile(f"{folder}/__init__.py"):
        yield f"{folder}/__init__.py"


def _module(place: str) -> Iterator[str]:
    if os.path.isfile(f"{place}.py"):
        yield f"{place}.py"


def _inside(package: str, name: str) -> Iterator[str]:
    """What `from package import name` may load besides the package."""
    if name != "*":
        yield from (*_init(f"{package}/{name}"), *_module(f"{package}/{name}"))
    elif os.path.isdir(package):
        # Which modules a star means is known only when the package runs: all that it could.
        yield from (f"{package}/{file}" for file in sorted(os.listdir(package)) if file.endswith(".py"))


def _parse(path: str, text: bytes) -> _Source:
    """What a file means; if it cannot be parsed, its bytes are all that is known."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # doubtful escapes are the user's affair
            tree = ast.parse(text, path)
        _strip_docstrings(tree)
        return _Source(digest_of_bytes(ast.dump(tree).encode()), tuple(_imports(tree)), tuple(sorted(_named(tree))))
    except SyntaxError as error:
        problem = f"{path}:{error.lineno or 1}: {error.msg}"
    except ValueError as error:
        problem = f"{path}:1: {error}"
    except (RecursionError, MemoryError):
        problem = f"{path}:1: nested too deeply to be read"
    return _Source(digest_of_bytes(text), problem=problem)


def _strip_docstrings(tree: ast.Module) -> None:
    for node in ast.walk(tree):
        if isinstance(node, _DOCUMENTED) and node.body and _is_text(node.body[0]):
            del node.body[0]


def _is_text(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _named(tree: ast.Module) -> set[str]:
    """Strings that look like a file's name; whether there is one is seen at each look."""
    texts = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text for text in texts if _FILE.fullmatch(text) and not text.endswith(".py")}


def _imports(tree: ast.Module) -> Iterator[_Import]:
    """All imports, also those inside functions and those by `import_module("name")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (_Import(alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (_Import(node.module or "", node.level, alias.name) for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and _called(node.func) in ("import_module", "__import__"):
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                dots = len(name.value) - len(name.value.lstrip("."))
                yield _Import(name.value.lstrip("."), dots)


def _called(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""
