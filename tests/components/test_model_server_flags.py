"""The embedded model server as a process, with the flags and files of tensorflow_model_server."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.components.serving_process import PATIENCE, publish, running_server

pytestmark = pytest.mark.tf


PLATFORMS = """
platform_configs {
  key: "tensorflow"
  value {
    source_adapter_config {
      [type.googleapis.com/tensorflow.serving.SavedModelBundleSourceAdapterConfig] {
        legacy_config { session_config { gpu_options { allow_growth: true } } saved_model_tags: "serve" }
      }
    }
  }
}
"""


@pytest.mark.parametrize(
    ("flag", "text", "said"),
    [
        ("model_config_file", "model_config_list {\n  config: [", "ModelServerConfig: 2:"),
        ("monitoring_config_file", "prometheus { }", "MonitoringConfig: 1:1: "),
        ("batching_parameters_file", "max_batch_size: 32", "BatchingParameters: 1:"),
        ("ssl_config_file", "server_key", "SSLConfig: 1:"),
        ("platform_config_file", PLATFORMS.replace("allow_growth", "allow"), "PlatformConfigMap: 7:"),
    ],
)
def test_a_file_that_cannot_be_parsed_ends_the_process_in_tensorflow_servings_words(
    flag: str, text: str, said: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text(text)
    flags = ("--model_base_path=/x", "--rest_api_port=0", "--port=0", "--enable_batching", f"--{flag}={file}")
    ended = subprocess.run(
        [sys.executable, "-m", "ctd.serving", *flags], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert ended.returncode == 1
    assert f"Invalid protobuf file: '{file}': Error parsing text-format tensorflow.serving.{said}" in ended.stderr
    assert "Failed to start server. Error: INVALID_ARGUMENT: " in ended.stderr


def test_what_has_no_meaning_here_is_said_in_one_warning(saved_models: Path, tmp_path: Path) -> None:
    (tmp_path / "platforms").write_text(PLATFORMS)
    (tmp_path / "session").write_text("gpu_options { allow_growth: true } intra_op_parallelism_threads: 2")
    publish(saved_models / "plus_two", tmp_path / "m", 1)
    flags = (
        "--model_name=m",
        f"--model_base_path={tmp_path / 'm'}",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000,grpc.primary_user_agent=me",
        "--tensorflow_session_parallelism=0",
        f"--tensorflow_session_config_file={tmp_path / 'session'}",
        f"--platform_config_file={tmp_path / 'platforms'}",
        "--per_process_gpu_memory_fraction=0.5",
        "--num_request_iterations_for_warmup=2",
        "--noflush_filesystem_caches",
        "--xla_cpu_compilation_enabled",
    )
    with running_server(tmp_path, *flags) as server:
        assert server.predict("m", instances=[2.0]) == {"predictions": [3.0]}
        warnings = [line for line in server.log.read_text().splitlines() if " WARNING " in line]
    (said,) = (line.partition("MainThread: ")[2] for line in warnings)
    assert said == (
        "without effect in this server: --platform_config_file, --per_process_gpu_memory_fraction, "
        "--flush_filesystem_caches, --xla_cpu_compilation_enabled"
    )


def test_a_channel_argument_is_obeyed(tmp_path: Path) -> None:
    """A connection that is too old is closed, though it says nothing that would be a reason."""
    ages = "grpc.max_connection_age_ms=100,grpc.max_connection_age_grace_ms=100"
    flags = (f"--model_base_path={tmp_path}", f"--grpc_channel_arguments={ages}")
    with running_server(tmp_path / "server", *flags) as server:
        host, _, port = server.grpc.rpartition(":")
        with socket.create_connection((host, int(port)), PATIENCE) as connection:
            connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")  # and no settings
            while connection.recv(4096):
                pass
