"""The identity of `code_deps`: files, folders and globs that count as code though no import leads to them."""

from __future__ import annotations

import os

from ctd.core.facts import FileFact
from ctd.core.spans import temporary
from ctd.storage.code import CodeReader
from ctd.storage.digests import FileDigests, file_fact

_MADE_BY_PYTHON = ("__pycache__", ".pyc", ".pyo")
_TRIED_BY_VIM = "4913"  # a file of this name shows vim, for a moment, whether it may write into the folder


def code_dep_fact(path: str, digests: FileDigests, code: CodeReader) -> FileFact:
    """What `code_deps` names, by content; of Python files by what they mean. What is wrong is said, not raised.

    What Python and editors leave in a folder while code is used and written is no code, unless it is named itself.
    """

    def meaning(file: str) -> str:
        return code.meaning(file) if file.endswith(".py") and os.path.isfile(file) else digests.of(file)

    return file_fact(path, meaning, _is_code)


def _is_code(name: str) -> bool:
    """Whether a file counts, by its name from the folder that was named."""
    return not any(
        step.startswith((".", "#")) or step.endswith(_MADE_BY_PYTHON) or step == _TRIED_BY_VIM or temporary(step)
        for step in name.split(os.sep)
    )
