"""Versions of a hub on the Hugging Face Hub too: one commit each, with its card as README.md, and one tag.

The Hub's library is imported by a program of its own only (`ctd.deploy.to_huggingface`), which reads the token itself:
so neither is ever in the daemon, nor the token in what is recorded.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ctd.core.errors import ComponentFailed
from ctd.deploy.conversion import Program
from ctd.deploy.hub import MANIFEST
from ctd.specs.targets import HuggingFace

_LIBRARY = "tensorflow"


def upload(where: HuggingFace, pipeline: str, versions: Sequence[int], base: Path, scratch: Path) -> str:
    """Upload those of the versions, oldest first, that are not there yet; nothing, or why the last is not there."""
    program = Program.of_module("ctd.deploy.to_huggingface", "uploading", timeout=where.timeout, hint="")
    job = {
        "base": str(base),
        "versions": list(versions),
        "repo": where.repo_of(pipeline),
        "endpoint": where.endpoint,
        "token_file": where.token_file or "",
        "private": where.private,
        "front_matter": {str(v): _front_matter(where, base / str(v)) for v in versions},
    }
    try:
        program.run(scratch, job)
    except ComponentFailed as error:
        return f"{error.message}. {error.hint}".removesuffix(". ")
    return ""


def _front_matter(where: HuggingFace, version: Path) -> str:
    try:
        return front_matter(where, json.loads((version / MANIFEST).read_text()))
    except FileNotFoundError:
        return ""  # it was removed meanwhile; who uploads passes over it


def front_matter(where: HuggingFace, said: Mapping[str, Any]) -> str:
    """The card's metadata, in the YAML that the Hub reads (of which JSON is a part); `said` is the version's card."""
    whole = [row["metrics"] for row in said["metrics"] if row["model"] == "candidate" and not row["slice"]]
    metrics = {name: value for name, value in (whole[0] if whole else {}).items() if isinstance(value, int | float)}
    fields: dict[str, Any] = {
        "license": where.license,
        "library_name": _LIBRARY,
        "pipeline_tag": where.task,
        "tags": [_LIBRARY, "saved-model", "ctd", *where.tags],
        "metrics": list(metrics),
        "model-index": _results(where.task, said, metrics) if where.task and metrics else None,
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in fields.items() if value]
    return "\n".join(["---", *lines, "---", "", ""])


def _results(task: str, said: Mapping[str, Any], metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics on all examples, in the form in which the Hub shows them beside those of other models."""
    spans = ", ".join(str(s.get("name", s["span"])) for s in said["spans"]) or "none of ours"
    data = {"type": said["pipeline"], "name": f"{said['pipeline']}, spans {spans}"}
    measured = [{"type": name, "name": name, "value": value} for name, value in metrics.items()]
    return [{"name": said["handle"], "results": [{"task": {"type": task}, "dataset": data, "metrics": measured}]}]
