"""What a person asked of a pipeline: to pause, retry, accept, approve. Facts that are recorded and that plans read.

(What passes between the daemon and a worker is another kind of request: `ctd.core.work`.)
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from datetime import datetime

from ctd.core.fingerprints import digest_of


class Verb(str, enum.Enum):
    """What is asked for."""

    ACCEPT = "accept"  # let a span into windows although a validator refused it
    PAUSE = "pause"  # start nothing more
    RESUME = "resume"  # take a pause back
    RUN_NOW = "run-now"  # do not wait for a time
    RETRY = "retry"  # attempts made before do not count
    CANCEL = "cancel"  # stop an execution, and do not try again
    APPROVE = "approve"  # let exactly this work run
    REJECT = "reject"  # do not
    BACKFILL = "backfill"  # read the spans of a range, however old, or do their work again
    STOP_BACKFILL = "stop-backfill"  # what has not begun of a backfill does not begin
    ROLLBACK = "rollback"  # a target is to have the model of an earlier push
    RELEASE = "release"  # take the rollbacks of a target back


class Order(str, enum.Enum):
    """Which spans of a backfill come first."""

    NEWEST = "newest"
    OLDEST = "oldest"


@dataclass(frozen=True)
class OperatorRequest:
    """One thing that someone asked for, and never taken back: a later request may say otherwise.

    Ids grow with those of executions, so that they tell what was there before the request.
    """

    verb: Verb
    pipeline: str
    who: str
    at: datetime
    node: str = ""  # none: the whole pipeline
    key: str = ""  # what it is about within the node, as in `Execution.key`
    span: int | None = None  # ACCEPT: the span's number; BACKFILL: the first of the range
    last: int | None = None  # BACKFILL: the last of the range
    order: Order | None = None  # BACKFILL: which come first
    about: str = ""  # ACCEPT: digest of what was found; APPROVE, REJECT: fingerprint; STOP_BACKFILL: id of the request;
    # ROLLBACK: id of the push to go back to
    execution: int = 0  # CANCEL: which; RETRY: only the work of this one; 0: all of the node; ROLLBACK: the push undone
    again: bool = False  # RUN_NOW, BACKFILL: what was made before is not reused
    baseline: bool = False  # ACCEPT: the span is a measure for others too, and no exception
    reason: str = ""
    id: int = 0  # MLMD's; 0 until recorded

    @property
    def name(self) -> str:
        """The name in MLMD: unique, so that recording twice is recording once."""
        of = [self.who, self.node, self.key, self.span, self.about, self.execution, self.again, self.reason]
        if self.last is not None:
            of += [self.last, self.order]
        of += ["baseline"] if self.baseline else []
        return f"{self.pipeline}/{self.verb.value}/{self.at.isoformat()}/{digest_of(of)[:16]}"

    def covers(self, span: int) -> bool:
        """Whether a span lies in the range of a backfill."""
        return self.span is not None and self.last is not None and self.span <= span <= self.last

    @property
    def said(self) -> str:
        """`by ana: disk was full`."""
        return f"by {self.who}" + (f": {self.reason}" if self.reason else "")

    def log_fields(self) -> dict[str, str | int]:
        """The fields of a log line about it."""
        fields = {"pipeline": self.pipeline, "node": self.node, "key": self.key, "verb": self.verb.value}
        concerned = {"execution": self.execution} if self.execution else {}
        return {**fields, **concerned, "who": self.who, "because": self.reason}
