"""What `run_fn` is given: TFX's fn_args, field by field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class DataAccessor:
    """Ways to read the examples without knowing how they are stored."""

    tf_dataset_factory: Callable[..., Any]
    record_batch_factory: Callable[..., Iterator[Any]]
    data_view_decode_fn: Callable[..., Any] | None = None


@dataclass
class FnArgs:
    """Open to changes, because users' modules do change it."""

    train_files: list[str]
    eval_files: list[str]
    train_steps: int | None
    eval_steps: int | None
    schema_path: str | None
    transform_graph_path: str | None
    data_accessor: DataAccessor
    serving_model_dir: str
    eval_model_dir: str
    model_run_dir: str
    base_model: str | None
    hyperparameters: dict[str, Any] | None
    custom_config: dict[str, Any]
    working_dir: str | None = None

    def __post_init__(self) -> None:
        # The older names of two of them, still common in modules.
        self.schema_file = self.schema_path
        self.transform_output = self.transform_graph_path
