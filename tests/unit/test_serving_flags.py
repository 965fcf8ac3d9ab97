"""The command line of the model server."""

from __future__ import annotations

import pytest

from ctd.serving.flags import Flags, parse

# The flags of tensorflow_model_server's main.cc, each with a value that it takes.
COMMAND_LINE = (
    "--port=8500 --grpc_socket_path=/s --rest_api_port=8501 --rest_api_num_threads=4 --rest_api_timeout_in_ms=1000 "
    "--rest_api_enable_cors_support=true --enable_batching=true --allow_version_labels_for_unavailable_models=true "
    "--batching_parameters_file=/b --enable_per_model_batching_parameters=true --model_config_file=/c "
    "--model_config_file_poll_wait_seconds=5 --model_name=m --model_base_path=/m --num_load_threads=0 "
    "--num_unload_threads=2 --max_num_load_retries=5 --load_retry_interval_micros=60000000 "
    "--file_system_poll_wait_seconds=1 --flush_filesystem_caches=true --tensorflow_session_parallelism=2 "
    "--tensorflow_session_config_file=/t --tensorflow_intra_op_parallelism=0 --tensorflow_inter_op_parallelism=0 "
    "--use_alts_credentials=false --ssl_config_file=/k --platform_config_file=/p --per_process_gpu_memory_fraction=0.5 "
    "--saved_model_tags=serve --grpc_channel_arguments=grpc.max_connection_age_ms=2000 --grpc_max_threads=8 "
    "--enable_model_warmup=true --num_request_iterations_for_warmup=3 --version=false --monitoring_config_file=/o "
    "--remove_unused_fields_from_bundle_metagraph=true --prefer_tflite_model=false --num_tflite_pools=1 "
    "--num_tflite_interpreters_per_pool=1 --enable_signature_method_name_check=false "
    "--xla_cpu_compilation_enabled=false --xla_gpu_compilation_enabled=false --enable_profiler=true "
    "--thread_pool_factory_config_file=/f --mixed_precision=bfloat16 --skip_initialize_tpu=false "
    "--enable_grpc_healthcheck_service=true --force_allow_any_version_labels_for_unavailable_models=false "
    "--enable_serialization_as_tensor_content=false"
)
TENSORFLOW_SERVINGS = COMMAND_LINE.split()
MEANINGLESS = {
    "enable_per_model_batching_parameters",
    "num_unload_threads",
    "flush_filesystem_caches",
    "platform_config_file",
    "per_process_gpu_memory_fraction",
    "remove_unused_fields_from_bundle_metagraph",
    "prefer_tflite_model",
    "num_tflite_pools",
    "num_tflite_interpreters_per_pool",
    "enable_signature_method_name_check",
    "xla_cpu_compilation_enabled",
    "xla_gpu_compilation_enabled",
    "enable_profiler",
    "thread_pool_factory_config_file",
    "mixed_precision",
    "skip_initialize_tpu",
    "force_allow_any_version_labels_for_unavailable_models",
    "enable_serialization_as_tensor_content",
}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--port=0", "--model_name=m", "--model_base_path=/m", "--enable_model_warmup=false"],
        ["--port", "0", "--model_name", "m", "--model_base_path", "/m", "--enable_model_warmup", "false"],
    ],
)
def test_values_come_after_an_equals_sign_or_a_space(arguments: list[str]) -> None:
    assert parse(arguments) == Flags(port=0, model_name="m", model_base_path="/m", enable_model_warmup=False)


def test_defaults_listen_on_this_machine_only_and_without_rest() -> None:
    flags = parse(["--model_base_path=/m"])
    assert (flags.bind, flags.port, flags.rest_api_port) == ("127.0.0.1", 8500, None)


def test_a_flag_alone_is_true() -> None:
    said = "--allow_version_labels_for_unavailable_models"
    assert parse(["--model_base_path=/m", f"{said}=true"]) == parse(["--model_base_path=/m", said])
    assert parse(["--model_base_path=/m", "--allow_version_labels_for_unavailable_models"]) == Flags(
        model_base_path="/m", allow_version_labels_for_unavailable_models=True
    )


@pytest.mark.parametrize("said", ["--enable_model_warmup=False", "--enable_model_warmup=0", "--noenable_model_warmup"])
def test_a_flag_can_be_denied(said: str) -> None:
    assert parse(["--model_base_path=/m", said]) == Flags(model_base_path="/m", enable_model_warmup=False)


def test_every_flag_of_tensorflow_model_server_is_accepted_and_what_means_nothing_is_known() -> None:
    flags = parse(TENSORFLOW_SERVINGS)
    assert set(flags.unheeded) == MEANINGLESS
    assert flags.grpc_channel_arguments == "grpc.max_connection_age_ms=2000"
    assert (flags.num_request_iterations_for_warmup, flags.num_load_threads) == (3, 1)


@pytest.mark.parametrize("argument", TENSORFLOW_SERVINGS)
def test_each_flag_starts_a_server_alone(argument: str) -> None:
    needed = ["--model_base_path=/m"] + (["--enable_batching"] if "batching_parameters" in argument else [])
    assert parse([*needed, argument]).model_base_path == "/m"


@pytest.mark.parametrize("name", ["use_tflite_model", "enforce_session_run_timeout", "num_tflite_interpreters"])
def test_flags_of_earlier_releases_are_accepted_too(name: str) -> None:
    assert parse(["--model_base_path=/m", f"--{name}=1"]).unheeded == (name,)


def test_metrics_without_a_port_to_show_them_on_are_none() -> None:
    flags = parse(["--model_base_path=/m", "--monitoring_config_file=/c"])
    assert (flags.monitoring_config_file, flags.unheeded) == ("", ("monitoring_config_file",))


def test_the_version_is_said_without_a_model(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("TensorFlow ModelServer: ")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model_base_path=/m", "--batching_parameters_file=/b"], "needs --enable_batching"),
        (["--hub_path=/h"], "needs --rest_api_port"),
        (["--model_base=/m"], "unrecognized arguments: --model_base=/m"),
        (["--model_base_path=/m", "--enable_batchin"], "--enable_batchin. Did you mean '--enable_batching'?"),
        (["--model_base_path=/m", "-port=1"], "-port=1. Did you mean '--port'?"),
        (["--model_base_path=/m", "model"], "unrecognized arguments: model"),
        (["--model_base_path=/m", "--port=http"], "invalid int value: 'http'"),
        (["--model_base_path=/m", "--enable_profiler=maybe"], "neither true nor false"),
        (["--model_base_path=/m", "--num_load_threads=-1"], "at least 1"),
        (["--model_base_path=/m", "--grpc_max_threads=0"], "at least 1"),
        (["--model_base_path=/m", "--model_version_policy=ALL"], "LATEST_VERSION or ALL_VERSIONS, not 'ALL'"),
        (["--model_base_path=/m", "--ssl_config_file=/k", "--use_alts_credentials"], "exclude each other"),
        (
            ["--model_base_path=/m", *(f"--tensorflow_{n}_parallelism=1" for n in ("session", "intra_op", "inter_op"))],
            "either --tensorflow_session_parallelism or",
        ),
        ([], "is needed"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
