"""Executions as processes of their own: started, watched, limited in time and output, ended with all they started."""

from __future__ import annotations

import contextlib
import math
import os
import queue
import selectors
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from ctd.core.errors import CtdError, TemporaryError, WorkerLost
from ctd.core.executions import Outcome
from ctd.core.machine import in_words, machine, unavailable
from ctd.core.timing import Clock, format_duration
from ctd.core.work import Request
from ctd.engine import processes
from ctd.engine.attempts import Attempt, prepare, spawn
from ctd.engine.bounds import PROGRESS
from ctd.engine.executor import Ended, Started
from ctd.engine.logfiles import keep_below
from ctd.engine.outcomes import Reason, ended_for, failed, outcome_of, read_bounded
from ctd.engine.pressure import Pressure, fault_under
from ctd.engine.processes import ProcessFacts
from ctd.engine.warm import WarmTemplate
from ctd.engine.worker import Job

_TICK = 0.5  # seconds between looks at deadlines and log sizes while something runs


@dataclass(frozen=True)
class ExecutorSettings:
    """How workers are run."""

    env: Mapping[str, str]  # all that workers see of the environment
    logs: Path  # where the templates log
    templates: Mapping[str, str] = field(default_factory=dict)  # profile to template; others start fresh
    template: str = "ctd.engine.template"  # the module that is run as one
    impatient: frozenset[str] = frozenset()  # profiles that start fresh rather than wait for a template's imports
    grace: timedelta = timedelta(seconds=10)  # between asking to stop and killing
    log_bytes: int = 32 * 2**20
    template_idle: timedelta = timedelta(minutes=30)  # after this long without work its memory is given back
    template_start: timedelta = timedelta(minutes=3)  # imports that take longer will not end
    fork_reply: timedelta = timedelta(seconds=20)  # a template that has not forked by then is unwell
    failpoints: str = ""
    pressure: Pressure = field(default_factory=Pressure)


class ProcessExecutor:
    """The Executor that starts processes: fresh ones, or forks of warm templates.

    One thread of its own does all the starting and watching. `wake` is called from it whenever `poll` has something.
    """

    def __init__(self, settings: ExecutorSettings, clock: Clock, wake: Callable[[], None]) -> None:
        self._settings = settings
        self._clock = clock
        self._wake = wake
        self._lock = threading.Lock()
        self._attempts: dict[int, Attempt] = {}
        self._events: queue.SimpleQueue[Started | Ended] = queue.SimpleQueue()
        self._commands: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        # Nobody ever writes: workers notice the daemon's end by the end of file.
        self._lifeline, self._held = os.pipe()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, self._obey)
        self._templates = {
            name: WarmTemplate(
                (settings.template, name, *filter(None, (settings.failpoints,))),
                settings.logs / f"template-{name}.log",
                settings.env,
                self._lifeline,
                clock,
            )
            for name in sorted(set(settings.templates.values()))
        }
        self._stopping = False
        self._thread = threading.Thread(target=self._loop, name="executor", daemon=True)
        self._thread.start()

    # Called by the controller.

    def start(self, request: Request, timeout: timedelta, *, profile: str, log: Path) -> None:
        attempt = Attempt(request, timeout, profile, log)
        with self._lock:
            self._attempts[attempt.id] = attempt
        self._tell(partial(self._launch, attempt, self._clock.monotonic()))

    def warm_up(self) -> None:
        self._tell(self._warm_up)

    def poll(self) -> list[Started | Ended]:
        events: list[Started | Ended] = []
        while not self._events.empty():
            events.append(self._events.get())
        if not events and not self._stopping and not self._thread.is_alive():
            raise RuntimeError("the executor's thread has ended; its traceback is on stderr")
        return events

    def running(self) -> Mapping[int, ProcessFacts]:
        with self._lock:
            return {a.id: a.process for a in self._attempts.values()}

    def progress(self, execution_id: int) -> str:
        with self._lock:
            attempt = self._attempts.get(execution_id)
        try:
            said = read_bounded(attempt.job.parent / ".progress", PROGRESS) if attempt else ""
        except OSError:
            return ""
        return "".join(c if c.isprintable() else " " for c in said).strip()

    def cancel(self, execution_id: int, *, superseded: str = "") -> None:
        self._tell(partial(self._cancel, execution_id, superseded))

    def stop(self, *, hurry: bool = False) -> None:
        self._stopping = True
        self._tell(partial(self._stop_all, hurry))
        self._thread.join()

    def _tell(self, command: Callable[[], None]) -> None:
        self._commands.put(command)
        os.eventfd_write(self._bell, 1)

    # From here on: the executor's thread.

    def _loop(self) -> None:
        try:
            while not self._stopping or self._attempts:
                for key, _ in self._selector.select(self._pause()):
                    key.data()
                self._tend()
        finally:
            for template in self._templates.values():
                template.end()
            os.close(self._held)  # whatever worker is left, after an error of this thread's, ends now
            self._selector.close()
            self._wake()

    def _obey(self) -> None:
        os.eventfd_read(self._bell)
        while not self._commands.empty():
            self._commands.get()()

    def _pause(self) -> float | None:
        if self._attempts:
            return _TICK
        if any(t.alive for t in self._templates.values()):
            return min(30.0, self._settings.template_idle.total_seconds())
        return None

    def _launch(self, attempt: Attempt, asked: float) -> None:
        """Prepare staging and hand the attempt to its template, or to a process of its own."""
        if attempt.reason is not None or self._stopping:
            self._finish(attempt, ended_for(attempt.reason or Reason.STOP, attempt.superseded))
            return
        try:
            prepare(attempt, Job(attempt.request, asked, self._settings.failpoints))
        except TemporaryError as error:
            self._finish(attempt, failed(error))
            return
        template = self._templates.get(self._settings.templates.get(attempt.profile, ""))
        if template is None or not self._at_hand(template, attempt.profile):
            self._start_fresh(attempt)
            return
        attempt.template = template
        if template.ready_for(attempt.profile):
            self._ask(attempt, template)

    def _warm_up(self) -> None:
        if not self._stopping:
            for template in self._templates.values():
                self._at_hand(template, "")

    def _at_hand(self, template: WarmTemplate, profile: str) -> bool:
        """Whether the template can be asked, now or when it has imported what is needed. Starts it if need be."""
        if profile in self._settings.impatient:
            return template.ready_for(profile)
        if template.alive or template.resting:
            return template.alive and (template.ready_for(profile) or not template.broken)
        try:
            channel = template.start()
            self._selector.register(channel, selectors.EVENT_READ, partial(self._hear, template))
        except OSError as error:
            template.end(f"it cannot be started: {in_words(error)}" if template.alive else "")
            return False
        return True

    def _ask(self, attempt: Attempt, template: WarmTemplate) -> None:
        attempt.asked_at = self._clock.monotonic()
        template.ask(attempt.id, attempt.job, attempt.log)

    def _start_fresh(self, attempt: Attempt) -> None:
        attempt.template, attempt.asked_at = None, math.inf
        try:
            child, watch = spawn(attempt, self._lifeline, self._settings.env)
        except TemporaryError as error:
            self._finish(attempt, failed(error))
            return
        try:
            with machine("start.select", "its process cannot be watched"):
                self._selector.register(watch, selectors.EVENT_READ, partial(self._reap, attempt, child, watch))
        except TemporaryError as error:
            processes.signal_group(child.pid, signal.SIGKILL)
            os.close(watch)
            child.wait()
            self._finish(attempt, failed(error))
            return
        self._began(attempt, child.pid)

    def _began(self, attempt: Attempt, pid: int) -> None:
        known: ProcessFacts = {}
        with contextlib.suppress(OSError):  # no descriptor to read them: it is known by its number meanwhile
            known = processes.facts(pid)
        with self._lock:
            attempt.process = known or {"pid": pid, "start": 0, "boot": ""}
        attempt.counted = self._settings.pressure.counts()
        for other in self._attempts.values():
            if other.process and other is not attempt:
                attempt.alone = other.alone = False
        attempt.asked_at = math.inf
        attempt.deadline = self._clock.monotonic() + attempt.timeout.total_seconds()
        self._events.put(Started(attempt.id, attempt.process))
        self._wake()
        if attempt.reason is not None:  # it was asked to stop before there was a process
            self._end(attempt, attempt.reason)

    def _reap(self, attempt: Attempt, child: subprocess.Popen[bytes], watch: int) -> None:
        # Kill the group while the dead leader still holds its number, so that it cannot be anyone else's.
        processes.signal_group(child.pid, signal.SIGKILL)
        self._selector.unregister(watch)
        os.close(watch)
        self._over(attempt, child.wait())

    def _hear(self, template: WarmTemplate) -> None:
        message = template.receive()
        if message is None:
            self._let_go(template, "it ended")
        elif "ready" in message or "broken" in message:
            self._serve(template)
        elif "pid" in message:
            self._began(self._attempts[message["id"]], message["pid"])
        elif "refused" in message:
            self._refused(self._attempts[message["id"]], OSError(message["refused"], ""))
        else:
            self._over(self._attempts[message["id"]], message["status"])

    def _refused(self, attempt: Attempt, error: OSError) -> None:
        """Its template lives on, and has no process for it."""
        outcome = failed(unavailable("its process cannot be forked", error))
        self._finish(attempt, ended_for(attempt.reason, attempt.superseded) if attempt.reason else outcome)

    def _serve(self, template: WarmTemplate) -> None:
        """See to attempts that wait for imports: they are done, or have failed."""
        for attempt in self._of(template):
            if attempt.process or not math.isinf(attempt.asked_at):
                continue
            if template.ready_for(attempt.profile):
                self._ask(attempt, template)
            elif template.broken:
                self._start_fresh(attempt)

    def _of(self, template: WarmTemplate) -> list[Attempt]:
        return [a for a in list(self._attempts.values()) if a.template is template]

    def _let_go(self, template: WarmTemplate, failure: str = "") -> None:
        """End a template. Its workers end with it; those it had not forked yet start fresh."""
        if template.channel is not None:
            self._selector.unregister(template.channel)
        template.end(failure)
        for attempt in self._of(template):
            if not attempt.process:
                self._start_fresh(attempt)
                continue
            attempt.signal(signal.SIGKILL)
            processes.wait_until_gone(attempt.process)
            hint = f"Its log is {template.log}. The attempt is made again, and the template started again after a rest."
            self._over(attempt, -signal.SIGKILL, WorkerLost(f"the warm template of its process: {failure}", hint=hint))

    def _over(self, attempt: Attempt, code: int, lost: CtdError | None = None) -> None:
        """The process is gone: see to what it may have left running, and read the outcome."""
        processes.kill_strays(attempt.job.parent)
        keep_below(attempt.log, self._settings.log_bytes)
        too_long = f"it ran longer than its timeout of {format_duration(attempt.timeout)} and was stopped"
        outcome = outcome_of(attempt.job.parent, code, attempt.reason, attempt.superseded or too_long)
        if attempt.reason is None:
            if lost is not None and outcome.failure is not None:
                outcome = failed(lost)
            outcome = self._under_pressure(attempt, outcome, killed=code == -signal.SIGKILL and lost is None)
        self._finish(attempt, outcome)

    def _under_pressure(self, attempt: Attempt, outcome: Outcome, *, killed: bool) -> Outcome:
        """The outcome, unless the kernel killed or refused processes while it ran."""
        counted = self._settings.pressure.counts().since(attempt.counted)
        if counted.killed > 0 and killed:  # that was one of them: whoever ran beside it has nothing to do with it
            for other in self._attempts.values():
                other.counted = replace(other.counted, killed=other.counted.killed + 1)
        fault = fault_under(counted, outcome.failure, alone=attempt.alone, killed=killed)
        return failed(fault) if fault else outcome

    def _finish(self, attempt: Attempt, outcome: Outcome) -> None:
        with self._lock:
            del self._attempts[attempt.id]
        self._events.put(Ended(attempt.id, outcome))
        self._wake()

    def _end(self, attempt: Attempt, reason: Reason, *, at_once: bool = False) -> None:
        """Ask it to stop, and have it killed after the grace."""
        attempt.reason = attempt.reason or reason
        if attempt.process:
            attempt.signal(signal.SIGKILL if at_once else signal.SIGTERM)
            attempt.kill_at = self._clock.monotonic() + self._settings.grace.total_seconds()
        elif math.isinf(attempt.asked_at):  # its template has not been asked for it
            self._finish(attempt, ended_for(attempt.reason, attempt.superseded))

    def _cancel(self, execution_id: int, superseded: str) -> None:
        attempt = self._attempts.get(execution_id)
        if attempt is not None and attempt.reason is None:
            attempt.superseded = superseded
            self._end(attempt, Reason.SUPERSEDE if superseded else Reason.CANCEL)

    def _stop_all(self, hurry: bool) -> None:
        for attempt in list(self._attempts.values()):
            self._end(attempt, Reason.STOP, at_once=hurry)

    def _tend(self) -> None:
        """What is due by the clock."""
        now = self._clock.monotonic()
        for attempt in list(self._attempts.values()):
            keep_below(attempt.log, self._settings.log_bytes)
            if attempt.reason is None and attempt.deadline <= now:
                self._end(attempt, Reason.TIMEOUT)
            if attempt.kill_at <= now:
                attempt.signal(signal.SIGKILL)
        for template in self._templates.values():
            if template.alive:
                self._tend_template(template, now - template.since)

    def _tend_template(self, template: WarmTemplate, quiet: float) -> None:
        attempts = self._of(template)
        s = self._settings
        importing = not template.whole and not template.broken
        patience = s.template_start if importing else s.fork_reply  # it forks between two imports
        if importing and self._clock.monotonic() - template.grew > s.template_start.total_seconds():
            self._let_go(template, f"its imports took longer than {format_duration(s.template_start)}")
        elif any(self._clock.monotonic() - a.asked_at > patience.total_seconds() for a in attempts):
            self._let_go(template, f"it did not fork within {format_duration(patience)}")
        elif not importing and not attempts and quiet > s.template_idle.total_seconds():
            self._let_go(template)
