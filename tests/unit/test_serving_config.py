"""The files that a server's flags name, in text format as tensorflow_model_server reads it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ctd.serving import config, side_protos
from ctd.serving.batching import Parameters
from ctd.serving.errors import Code, ServingError
from ctd.serving.flags import Flags
from ctd.serving.versions import All

BATCHING = """
max_batch_size { value: 128 }
batch_timeout_micros { value: 2500 }  # a comment
max_enqueued_batches { value: 7 }
num_batch_threads { value: 3 }
allowed_batch_sizes: 32
allowed_batch_sizes: 128
pad_variable_length_inputs: true
"""


def read(directory: Path, name: str, text: str) -> object:
    file = directory / "file"
    file.write_text(text)
    return side_protos.read_text(file, side_protos.message_class(name)())


def test_text_files_are_parsed_as_protos(tmp_path: Path) -> None:
    monitoring = read(tmp_path, "MonitoringConfig", 'prometheus_config { enable: true, path: "/\\x6detrics" }')
    assert str(monitoring) == 'prometheus_config {\n  enable: true\n  path: "/metrics"\n}\n'


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("MonitoringConfig", "prometheus_config { enable: maybe }", "1:29"),
        ("MonitoringConfig", "statsd_config {}", 'no field named "statsd_config"'),
        ("MonitoringConfig", "prometheus_config {", '1:19: Expected "}"'),
        ("BatchingParameters", "max_batch_size { value: 1 }\nmax_batch: 2", '2:1: Message type "tensorflow.serving.'),
        ("BatchingParameters", "max_batch_size: 3", "Expected"),
        ("BatchingParameters", '{"max_batch_size": 3}', "1:1: "),
        ("SSLConfig", "server_key: \xff", "1:13: "),
    ],
)
def test_what_is_no_such_proto_is_an_error_with_its_place_in_tensorflow_servings_words(
    tmp_path: Path, name: str, text: str, words: str
) -> None:
    with pytest.raises(ServingError, match=r"Invalid protobuf file: '.*file'") as refused:
        read(tmp_path, name, text)
    assert f": Error parsing text-format tensorflow.serving.{name}: " in refused.value.message
    assert words in refused.value.message


def test_bytes_that_are_no_text_are_an_error_with_their_line(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_bytes(b"# models\nmodel_config_list { config { name: '\xff' } }")
    said = "Error parsing text-format tensorflow.serving.ModelServerConfig: 2: this is no UTF-8 text"
    with pytest.raises(ServingError, match=re.escape(said)):
        config.from_flags(Flags(model_config_file=str(file)))


def test_the_mark_that_windows_puts_before_text_is_no_error(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_bytes(b'\xef\xbb\xbfmodel_config_list: { config: { name: "m", base_path: "/m" }, }\r\n')
    assert [model.name for model in config.from_flags(Flags(model_config_file=str(file)))] == ["m"]


def test_what_batching_does_not_obey_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "batching.config"
    file.write_text("max_batch_size { value: 8 } enable_large_batch_splitting { value: true }")
    flags = Flags(enable_batching=True, batching_parameters_file=str(file))
    assert config.batching(flags) == Parameters(max_batch_size=8)
    assert "enable_large_batch_splitting" in caplog.text


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("", ()),
        ("grpc.max_connection_age_ms=2000", (("grpc.max_connection_age_ms", 2000),)),
        (
            "grpc.primary_user_agent=a,grpc.http2.max_pings_without_data=-1",
            (("grpc.primary_user_agent", "a"), ("grpc.http2.max_pings_without_data", -1)),
        ),
    ],
)
def test_channel_arguments_are_numbers_where_they_can_be(said: str, expected: object) -> None:
    assert config.channel_arguments(Flags(grpc_channel_arguments=said)) == expected


def test_a_channel_argument_without_a_value_is_refused() -> None:
    with pytest.raises(ServingError, match=r"'grpc\.max_connection_age_ms' is not of the form key=value"):
        config.channel_arguments(Flags(grpc_channel_arguments="grpc.max_connection_age_ms"))


def test_a_policy_can_be_a_flag() -> None:
    (model,) = config.from_flags(Flags(model_base_path="/m", model_version_policy="ALL_VERSIONS"))
    assert model.policy == All()


def test_health_messages_have_the_bytes_of_their_protos() -> None:
    request = side_protos.message_class("HealthCheckRequest").FromString(b"\x0a\x0cModelService")
    assert request.service == "ModelService"
    assert side_protos.message_class("HealthCheckResponse")(status=1).SerializeToString() == b"\x08\x01"


def test_batching_parameters_have_tensorflow_servings_defaults() -> None:
    assert Parameters() == Parameters(max_batch_size=1000, timeout_seconds=0, max_enqueued_batches=10)


def test_a_file_that_says_nothing_is_a_beginning_and_no_end(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    flags = Flags(model_config_file=str(file))
    file.write_text("")
    assert config.from_flags(flags) == ()
    file.write_text('model_config_list { config { name: "m" base_path: "/m" } }')
    before = config.from_flags(flags)
    file.write_text("# written in place")
    with pytest.raises(ServingError, match="Cannot transition to requested config") as refused:
        config.from_flags(flags, before)
    assert refused.value.code is Code.FAILED_PRECONDITION
    file.write_text("model_config_list {}")
    assert config.from_flags(flags, before) == (), "this says that there are no models"


def test_a_model_whose_requests_are_to_be_logged_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "models.config"
    file.write_text('model_config_list { config { name: "m" base_path: "/m" logging_config {} } }')
    with pytest.raises(ServingError, match="Model m: logging_config is not supported"):
        config.from_flags(Flags(model_config_file=str(file)))
