"""What an error of the user's code says, and which of the user's lines it comes from.

Nothing here imports TensorFlow: what it knows of graphs and converted code is found among the objects of the process.
"""

from __future__ import annotations

import gc
import itertools
import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import FunctionType
from typing import TypeVar

from ctd.core.wrapped_errors import Frame, Unwrapped, beginning, unwrapped
from ctd.storage.code import package_root

_T = TypeVar("_T")
_GENERATED = "__autograph_generated_file"
_SHOWN = 3  # of the errors in a group
_MOST_MEMBERS = 1000
_DEPTH = 20  # errors that come from each other
_LONGEST = 200_000  # characters of a text that is looked through


@dataclass(frozen=True)
class Told:
    """An error for people: `ValueError: no column 'fare'`, and `file:line` of the user's or nothing."""

    what: str
    place: str = ""

    def __str__(self) -> str:
        return f"{self.what} at {self.place}" if self.place else self.what


def told(error: BaseException, module: str | None) -> Told:
    """The error, under all that libraries put around it, with what it comes from. Never raises an Exception."""
    try:
        return _told(error, package_root(module) if module else None)
    except Exception:  # noqa: BLE001  errors are code we did not write, too
        return Told(f"{type(error).__name__}: {text_of(error)}")


def text_of(error: BaseException) -> str:
    """What an error has to say. Code we did not write may fail at that, too."""
    try:
        if isinstance(error, KeyError) and len(error.args) == 1 and "\n" in str(error.args[0]):
            text = str(error.args[0])  # a library's text, of which str() would make one line with \n in it
        else:
            text = str(error)
    except Exception as another:  # noqa: BLE001  the border around code we did not write
        return f"(its text cannot be made: {type(another).__name__})"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 2]}\n\n{text[-_LONGEST // 2 :]}"


def user_line(error: BaseException, module: str | None) -> str:
    """`file:line` of the innermost line in the module's own tree, or nothing."""
    return told(error, module).place if module else ""


def _told(error: BaseException, tree: str | None) -> Told:
    outer = _told_with_members(error, tree)
    came_from = list(_came_from(error, tree))
    if not came_from:
        return outer
    first = came_from[-1]
    root = _told_with_members(first, tree)
    if type(first).__name__.endswith("RemoteTraceback"):  # what a pool of processes has raised again
        return Told(outer.what, root.place or outer.place)
    place = outer.place or root.place
    if _is_said(root.what, outer.what):  # as `raise Mine(f"...: {error}") from error` has it
        return Told(outer.what, place)
    said = root if root.place != outer.place else Told(root.what)
    return Told(f"{outer.what} (caused by {said})", place)


def _told_with_members(error: BaseException, tree: str | None) -> Told:
    """An error; and the first of those in a group, at any depth."""
    alone = _told_alone(error, tree)
    members = list(itertools.islice(_members(error), _MOST_MEMBERS))
    if not members:
        return alone
    parts = [str(_told_alone(one, tree)) for one in members[:_SHOWN]]
    more = f"; and {len(members) - _SHOWN} more" if len(members) > _SHOWN else ""
    return Told(f"{alone.what}: {'; '.join(parts)}{more}", alone.place)


def _members(error: BaseException) -> Iterator[BaseException]:
    """The errors in a group, and in the groups in it. Their class is of Python 3.11, or of a library before."""
    inside = getattr(error, "exceptions", ())
    if not isinstance(inside, tuple | list):
        return
    for one in inside:
        if isinstance(one, BaseException):
            deeper = list(itertools.islice(_members(one), _MOST_MEMBERS))
            yield from deeper or [one]


def _told_alone(error: BaseException, tree: str | None) -> Told:
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        mine = _own(Frame(error.filename, error.lineno), tree)
        return Told(f"{type(error).__name__}: {error.msg}", mine or _line(error, Unwrapped(""), tree))
    said = unwrapped(text_of(error))
    kind = said.kind or _kind(error)
    message = said.shown(paragraphs=_raised_here(error, tree)) or _code(error)
    message = "; ".join([message, *_notes(error)]) if message else "; ".join(_notes(error))
    return Told(f"{kind}: {message}" if message else kind, _line(error, said, tree))


def _notes(error: BaseException) -> list[str]:
    """What was added with `add_note` on the way."""
    notes = getattr(error, "__notes__", ())
    return [beginning(note) for note in notes[:_SHOWN] if isinstance(note, str)] if isinstance(notes, list) else []


def _kind(error: BaseException) -> str:
    """Its class. Keras makes a RuntimeError of errors whose classes want more than a text."""
    for _ in range(_DEPTH):
        if not hasattr(error, "_keras_call_info_injected") or error.__context__ is None:
            break
        error = error.__context__
    return type(error).__name__


def _code(error: BaseException) -> str:
    """The line that raised, for an assert without a text."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    if not last or not isinstance(error, AssertionError) or _GENERATED in last[0].filename:
        return ""
    return last[0].line or ""


def _raised_here(error: BaseException, tree: str | None) -> bool:
    """Whether the text is the user's own, as far as tracebacks tell."""
    last = traceback.extract_tb(_origin(error).__traceback__)[-1:]
    return bool(last and _own(_original(Frame(last[0].filename, last[0].lineno or 0)), tree))


def _came_from(error: BaseException, tree: str | None) -> Iterator[BaseException]:
    """The errors that it was raised from: what `from` says, or what user code was handling."""
    seen, one = {id(error)}, _origin(error)
    for _ in range(_DEPTH):
        before = one.__cause__
        if before is None and not one.__suppress_context__ and one.__context__ is not None:
            before = one.__context__ if _lines_of(one.__context__, tree) else None
        if before is None or id(before) in seen:
            return
        seen.add(id(before))
        yield before
        one = _origin(before)


def _origin(error: BaseException) -> BaseException:
    """What AutoGraph and Keras made another error of, in order to say more: they raise theirs `from None`."""
    for _ in range(_DEPTH):
        before = error.__context__
        more = hasattr(error, "ag_error_metadata") and hasattr(before, "ag_error_metadata")
        if before is None or not (more or hasattr(error, "_keras_call_info_injected")):
            break
        error = before
    return error


def _is_said(inner: str, outer: str) -> bool:
    """Whether the outer error says what the inner one does: as words of its own, not as part of one."""
    kind, _, message = inner.partition(": ")
    if outer.startswith(f"{kind}: "):
        message = message.strip("'\"")  # of a KeyError, which has its text quoted
    return re.search(rf"(?<!\w){re.escape(message or inner)}(?!\w)", outer) is not None


def _line(error: BaseException, said: Unwrapped, tree: str | None) -> str:
    """The user's line: where the text has it, where the op was made that failed, or where it was raised."""
    if tree is None:
        return ""
    lines = [mine for frame in said.frames if (mine := _own(_original(frame), tree))]
    own_stack = lines[-1:] if said.frames else []
    made = _lines_of_op(said.node, tree) if said.node and not own_stack else []
    lasts = (own_stack, made, _lines_of(error, tree), _lines_of(_origin(error), tree))
    return next((found[-1] for found in lasts if found), "")


def _lines_of(error: BaseException, tree: str | None) -> list[str]:
    """The lines of a traceback that are the user's, outermost first."""
    frames = (Frame(f.filename, f.lineno or 0) for f in traceback.extract_tb(error.__traceback__))
    said = unwrapped(text_of(error)).frames if type(error).__name__.endswith("RemoteTraceback") else ()
    return [mine for frame in (*frames, *said) if (mine := _own(_original(frame), tree))]


def _own(frame: Frame, tree: str | None) -> str:
    """`file:line` if it is of the user's tree. XLA knows no more of a file than its last folder and its name."""
    file = frame.file
    if tree is None or "/site-packages/" in file:
        return ""
    if not file.startswith("/"):
        loaded = (str(getattr(module, "__file__", "") or "") for module in list(sys.modules.values()))
        file = next((own for own in loaded if own.startswith(f"{tree}/") and own.endswith(f"/{file}")), "")
    return f"{file}:{frame.line}" if file.startswith(f"{tree}/") and "/site-packages/" not in file else ""


def _original(frame: Frame) -> Frame:
    """The line that AutoGraph has made this one of."""
    if _GENERATED not in frame.file:
        return frame
    for function in _objects(FunctionType):
        origin = vars(function).get("ag_source_map", {}).get((frame.file, frame.line))
        if origin is not None:
            return Frame(origin.loc.filename, origin.loc.lineno)
    return frame


def _objects(kind: type[_T]) -> Iterator[_T]:
    """Those of the process that are of a class. `isinstance` would ask proxies, which import what they stand for."""
    return (one for one in gc.get_objects() if issubclass(type(one), kind))


def _lines_of_op(node: str, tree: str) -> Sequence[str]:
    """The user's line that made an op of this name; nothing where graphs have several.

    Errors of tf.data's functions come without the stack of their op, and their graphs are still there.
    """
    graphs = sys.modules.get("tensorflow.python.framework.func_graph")
    if graphs is None:
        return []
    found: set[str] = set()
    for graph in list(_objects(graphs.FuncGraph)):
        operations = (operation for operation in graph.get_operations() if operation.name == node)
        for operation in operations:
            frames = (Frame(f.filename, f.lineno) for f in operation.traceback or ())
            found.update([mine for frame in frames if (mine := _own(_original(frame), tree))][-1:])
    return [*found] if len(found) == 1 else []
