"""What an error's text says, under what libraries wrap around it.

TensorFlow, AutoGraph, Keras, XLA and Beam put the error that matters into the middle of a longer text: below
`in user code:`, below `Graph execution error:` and the stack of the op, between `Exception encountered when calling`
and the arguments. The layers come nested, and some only as text: from C++, from other processes, from other machines.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

_LINES = 12  # of a message; the log has all of it
_DEPTH = 20  # wrappers within wrappers

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FRAME = re.compile(r'^\s*File "(?P<file>.+?)", line (?P<line>\d+)(?:, in .*)?$')
_KIND = re.compile(r"^(?P<kind>[A-Za-z_][\w.]*)(?:: ?(?P<message>.*))?$")
_CALLING = re.compile(r"^Exception encountered when calling ")
_ARGUMENTS = re.compile(r"\n\s*(?:Call a|A)rguments received by ")
_UNINFERRED = re.compile(
    r"^Could not automatically infer the output shape / dtype of .*?Error encountered:\s*", re.DOTALL
)
_GRAPH = re.compile(r"^(?:\{\{function_node [^}]*\}\} ?)?Graph execution error:\s*\n")
_DETECTED = re.compile(r"^Detected at node (?P<node>\S+) defined at \(most recent call last\):$")
_NO_STACK = "<stack traces unavailable>"
_ROOTS = re.compile(
    r"^\d+ root error\(s\) found\.\n\s*\(0\) [A-Za-z_]+: +(?P<first>.*?)(?=\n\s*\(1\) |\n\d+ success|\Z)", re.DOTALL
)
_DEFINED = re.compile(r"\n(?:The op is created at:|Stack trace for op definition:|Original stack trace for .*:) *\n")
_PYTHON = "Traceback (most recent call last):"
_REMOTE = re.compile(r'^"""|"""$', re.MULTILINE)  # around the traceback of another process
_NODE = re.compile(r"\{+node (?P<node>[^{}]+)\}+")
_FUNCTION = re.compile(r"\{\{function_node [^}]*\}\} ?")
_NODE_LINE = re.compile(
    r"^\s*\[\[(?:\{+(?:node|function_node) .*|[\w/:.-]+)\]\](?: \[Op:[^\]]*\])?(?: name: ?\S*)?\s*$"
)
_OP = re.compile(r" ?\[Op:[^\]]*\](?: name: ?\S*)?")
_XLA_OPTIONS = re.compile(r"(?<=\w)\[(?:_XlaMustCompile=[^\]]*)?\](?= on XLA)|\{\{node [^{}]*\}\}$", re.MULTILINE)
_CONVERSION = re.compile(r"^\s*tf2xla conversion failed while converting ")


@dataclass(frozen=True)
class Frame:
    """A line of code on the way to an error."""

    file: str
    line: int


@dataclass(frozen=True)
class Unwrapped:
    """The innermost error of a text: its class where the text names one, what it says, and the way to it.

    `node` is the op of a graph that failed.
    """

    message: str
    kind: str = ""
    frames: tuple[Frame, ...] = ()
    node: str = ""

    def shown(self, *, paragraphs: bool = False) -> str:
        """The message in a few lines, with the op."""
        message = beginning(self.message, paragraphs=paragraphs)
        named = not self.node or self.node in message
        return message if named else f"{message} (node {self.node})".strip()


def unwrapped(text: str) -> Unwrapped:
    """The error in the middle of a text, without its wrappers and without marks that are for machines."""
    said = Unwrapped(_COLOURS.sub("", text).strip("\n"))
    for _ in range(_DEPTH):
        inner = next((found for unwrap in _WRAPPERS if (found := unwrap(said.message)) is not None), None)
        if inner is None:
            break
        said = Unwrapped(
            inner.message.strip("\n"), inner.kind or said.kind, (*said.frames, *inner.frames), inner.node or said.node
        )
    # Of an error in Python, the op would be the one that called it.
    node = said.node or ("" if said.kind else _node_of(said.message))
    return replace(said, message=_without_marks(said.message), node=node)


def _of_autograph(text: str) -> Unwrapped | None:
    if not text.startswith("in user code:"):
        return None
    return _after_frames(textwrap.dedent(text.partition("\n")[2]).split("\n"))


def _of_python(text: str) -> Unwrapped | None:
    """A traceback within a text, of a function that TensorFlow called or of another process."""
    if _PYTHON not in text:
        return None
    last = _REMOTE.sub("", text).rpartition(_PYTHON)[2]
    return _after_frames(textwrap.dedent(last).split("\n"))


def _after_frames(lines: Sequence[str]) -> Unwrapped | None:
    """Frames with their code, then `Class: message` at the margin."""
    frames: list[Frame] = []
    for number, line in enumerate(lines):
        frame = _frame(line)
        if frame:
            frames.append(frame)
        elif line.strip() and not line[0].isspace():
            found = _KIND.match(line)
            if found is None:
                return Unwrapped("\n".join(lines[number:]), frames=tuple(frames))
            message = "\n".join([found["message"] or "", *lines[number + 1 :]])
            return Unwrapped(message, found["kind"].rpartition(".")[2], tuple(frames))
    return None


def _of_keras(text: str) -> Unwrapped | None:
    if not _CALLING.match(text):
        return None
    inside = text.partition("\n")[2].lstrip("\n")
    ends = [match.start() for match in _ARGUMENTS.finditer("\n" + inside)]
    inside = inside[: max(0, ends[-1] - 1)] if ends else inside
    return Unwrapped(_UNINFERRED.sub("", inside.strip("\n")))


def _of_graph(text: str) -> Unwrapped | None:
    found = _GRAPH.match(text)
    if found is None:
        return None
    stacks: dict[str, list[Frame]] = {}
    node, lines = "", text[found.end() :].split("\n")
    for number, line in enumerate(lines):
        detected, frame = _DETECTED.match(line), _frame(line)
        if detected:
            node = detected["node"]
            stacks[node] = []
        elif frame:
            stacks.setdefault(node, []).append(frame)
        elif line.strip() and line.strip() != _NO_STACK:
            rest = "\n".join(lines[number:])
            failed = next((n for n in (_node_of(rest), *stacks) if n in stacks), "")  # several may have been detected
            return Unwrapped(rest, "", tuple(stacks.get(failed, ())), failed)
    return Unwrapped("", node=node)


def _of_roots(text: str) -> Unwrapped | None:
    found = _ROOTS.match(text)
    return None if found is None else Unwrapped(found["first"])


def _of_definition(text: str) -> Unwrapped | None:
    """An error with the stack of its op behind it, as XLA has it."""
    found = _DEFINED.search(text)
    if found is None:
        return None
    frames = [frame for line in text[found.end() :].split("\n") if (frame := _frame(line))]
    return Unwrapped(text[: found.start()], "", tuple(frames), _node_of(text))


_WRAPPERS: Sequence[Callable[[str], Unwrapped | None]] = (
    _of_autograph,
    _of_keras,
    _of_graph,
    _of_roots,
    _of_python,
    _of_definition,
)


def _frame(line: str) -> Frame | None:
    found = _FRAME.match(line)
    return Frame(found["file"], int(found["line"])) if found else None


def _node_of(text: str) -> str:
    found = _NODE.search(text) if "[[" in text or "is created at" in text else None
    return found["node"].strip() if found else ""


def _without_marks(text: str) -> str:
    """Without what TensorFlow adds for itself: names of functions, options of compilers."""
    lines = (line for line in text.split("\n") if not _NODE_LINE.match(line) and not _CONVERSION.match(line))
    text = _XLA_OPTIONS.sub("", _OP.sub("", _FUNCTION.sub("", "\n".join(lines))))
    return text.strip()


def beginning(message: str, *, paragraphs: bool = False) -> str:
    """What is shown of a message: a few lines of its first paragraph, or of all.

    Libraries append whole data structures after a blank line. What a colon announces belongs to it.
    """
    parts = re.split(r"\n(?:[ \t]*\n)+", message.strip("\n"))
    kept = parts[:1]
    for part in parts[1:]:
        if not paragraphs and not kept[-1].rstrip().endswith(":"):
            break
        kept.append(part)
    lines = "\n".join(kept).split("\n")
    if len(lines) > _LINES:
        lines = [*lines[:_LINES], f"[{len(lines) - _LINES} more lines in the log]"]
    return "\n".join(line.rstrip() for line in lines)
