"""The command line of the model server."""

from __future__ import annotations

import pytest

from ctd.serving.flags import Flags, parse


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--model_base_path=/m", "--enable_profiler"], "unrecognized arguments: --enable_profiler"),
        (["--model_base_path=/m", "--batching_parameters_file=/b"], "needs --enable_batching"),
        (["--model_base_path=/m", "--monitoring_config_file=/c"], "needs --rest_api_port"),
        (["--hub_path=/h"], "needs --rest_api_port"),
        (["--model_base=/m"], "unrecognized arguments: --model_base=/m"),
        (["--model_base_path=/m", "--port=http"], "invalid int value: 'http'"),
        (["--model_base_path=/m", "--num_load_threads=0"], "at least 1"),
        ([], "is needed"),
    ],
)
def test_what_cannot_be_obeyed_is_refused(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse(arguments)
    assert ended.value.code == 2
    assert words in capsys.readouterr().err
