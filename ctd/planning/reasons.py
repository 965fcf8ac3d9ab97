"""Why something runs, in words with numbers: what changed since the last time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ctd.core.calendars import NUMBERS, Calendar
from ctd.core.executions import Execution
from ctd.core.spans import span_name

Calendars = Mapping[str, Calendar]
"""How the spans of each input are numbered."""


def span_key(calendar: Calendar, number: int, version: int | None) -> str:
    """`span-42`, `span-42.v2`, `span-2026-11-29T23`."""
    return f"span-{span_name(calendar, number, version)}"


def spans_key(calendar: Calendar, numbers: Sequence[int]) -> str:
    """`span-42`, `spans 36..42 (7)`."""
    if len(numbers) == 1:
        return f"span-{calendar.say(numbers[0])}"
    return f"spans {calendar.say(min(numbers))}..{calendar.say(max(numbers))} ({len(numbers)})"


def spans_said(calendar: Calendar, numbers: Sequence[int]) -> str:
    """`span 3`, `spans 3, 5..9`."""
    return f"{'span' if len(numbers) == 1 else 'spans'} {ranges_said(calendar, numbers)}"


def ranges_said(calendar: Calendar, numbers: Iterable[int]) -> str:
    """`3, 5..9`; `none`."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    say = calendar.say
    return ", ".join(f"{say(run[0])}..{say(run[-1])}" if len(run) > 1 else say(run[0]) for run in runs) or "none"


def what_changed(new: Mapping[str, Any], last: Execution | None, calendars: Calendars) -> str:
    """The differences between the ingredients of this work and those of the execution before it."""
    if last is None:
        return "first run"
    found = list(changes(new, last.ingredients, calendars))
    if not found:
        return f"other work than execution {last.id}"
    return "; ".join(found[:4]) + (f"; and {len(found) - 4} more" if len(found) > 4 else "")


@dataclass(frozen=True)
class Change:
    """One difference between what two executions were made of; `before` or `after` is none where there was nothing."""

    kind: Literal["component", "setting", "code", "file", "content", "baseline", "input"]
    name: str  # of the setting, file or input
    before: str | None
    after: str | None
    span: int | None = None  # of an input


def changes(new: Mapping[str, Any], old: Mapping[str, Any], calendars: Calendars) -> Iterator[str]:
    """Every difference between what two executions were made of, in words; spans of an input are told together."""
    found = list(differences(new, old))
    for change in found:
        if change.kind != "input" or change.span is None:
            yield said(change)
    for key in dict.fromkeys(c.name for c in found if c.kind == "input" and c.span is not None):
        yield from _spans([c for c in found if (c.kind, c.name) == ("input", key)], calendars.get(key, NUMBERS))


def said(change: Change) -> str:
    """`train_steps 100 -> 200`, `code changed (a1b2c3d4 -> e5f6a7b8)`."""
    match change.kind:
        case "component" | "setting" | "baseline":
            name = f"{change.kind} " if change.kind != "setting" else f"{change.name} "
            return f"{name}{change.before} -> {change.after}"
        case _:
            return f"{change.name} changed ({short(change.before)} -> {short(change.after)})"


def differences(new: Mapping[str, Any], old: Mapping[str, Any]) -> Iterator[Change]:
    """Every difference between what two executions were made of."""
    yield from _whole("component", new, old)
    for what in ("settings", "target", "packages"):
        before, after = dict(_leaves(old.get(what, {}))), dict(_leaves(new.get(what, {})))
        for path in sorted(before.keys() | after.keys()):
            if before.get(path) != after.get(path):
                yield Change("setting", path, _show(before.get(path)), _show(after.get(path)))
    yield from _whole("code", new, old)
    for name, digest in new.get("files", {}).items():
        if old.get("files", {}).get(name) != digest:
            yield Change("file", name, _text(old.get("files", {}).get(name)), digest)
    yield from _whole("content", new, old)
    yield from _whole("baseline", new, old)
    now, then = new.get("inputs", {}), old.get("inputs", {})
    for key in (*now, *(key for key in then if key not in now)):
        yield from _input(key, now.get(key, []), then.get(key, []))


def _whole(
    what: Literal["component", "code", "content", "baseline"], new: Mapping[str, Any], old: Mapping[str, Any]
) -> Iterator[Change]:
    if new.get(what) != old.get(what):
        yield Change(what, what, _text(old.get(what)), _text(new.get(what)))


def _input(key: str, taken: Sequence[Any], before: Sequence[Any]) -> Iterator[Change]:
    now: dict[int | None, str] = dict(taken)
    then: dict[int | None, str] = dict(before)
    if set(now) == {None} or set(then) == {None}:
        if now != then:
            yield Change("input", key, then.get(None), now.get(None))
        return
    for span in dict.fromkeys((*now, *then)):
        if now.get(span) != then.get(span):
            yield Change("input", key, then.get(span), now.get(span), span)


def _spans(found: Sequence[Change], calendar: Calendar) -> Iterator[str]:
    """`examples: span 4 new`, `examples: span 1 left the window`."""
    changed = [c for c in found if c.before is not None and c.after is not None]
    word_changed = "changed"
    if len(changed) == 1:
        word_changed = f"changed ({short(changed[0].before)} -> {short(changed[0].after)})"
    new, gone = [c for c in found if c.before is None], [c for c in found if c.after is None]
    for word, some in (("new", new), ("left the window", gone), (word_changed, changed)):
        if some:
            shown = calendar.said(c.span for c in some[:3] if c.span is not None)
            shown += f" and {len(some) - 3} more" if len(some) > 3 else ""
            yield f"{some[0].name}: span {shown} {word}"


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _leaves(inner, f"{path}.{key}" if path else str(key))
    else:
        yield path, value


def _show(value: Any) -> str:
    return "default" if value is None else str(value)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def short(digest: str | None) -> str:
    """The beginning of a digest."""
    return digest[:8] if digest else "nothing"
