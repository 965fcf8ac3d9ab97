"""What a spec may say of the validation in a model server, and what it may not."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from ctd.specs.infra import InfraValidatorSpec


def spec(**said: Any) -> InfraValidatorSpec:
    return InfraValidatorSpec(kind="infra_validator", **said)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        pytest.param({"requests": 0, "warmup": True}, "`warmup` needs requests", id="warm-up of nothing"),
        pytest.param({"requests": 0, "max_latency": "5ms"}, "`max_latency` needs requests", id="latency of nothing"),
        pytest.param({"signatures": []}, "at least 1 item", id="no signature to ask"),
        pytest.param({"images": []}, "at least 1 item", id="no image to pass in"),
        pytest.param({"images": ["tensorflow/serving"]}, "should match pattern", id="an image that changes"),
        pytest.param({"images": ["here:5000/serving"]}, "should match pattern", id="a port is no tag"),
        pytest.param({"runner": "docker", "binary": "/x"}, "`binary` is not used by docker", id="idle binary"),
        pytest.param(
            {"runner": "docker", "op_libraries": ["my_ops"]}, "`op_libraries` is not used by docker", id="idle library"
        ),
        pytest.param(
            {"binary": "/x", "op_libraries": ["my_ops"]}, "`op_libraries` is not used by `binary`", id="other server"
        ),
        pytest.param({"op_libraries": ["one,other"]}, "'one,other' has a comma", id="two libraries in one"),
        pytest.param({"op_libraries": ["my-ops"]}, "neither a path of a shared object nor", id="no library"),
        pytest.param({"runner": "kubernetes"}, "needs to know where", id="some cluster"),
        pytest.param({"max_latency": "0s"}, "longer than nothing", id="no time at all"),
    ],
)
def test_what_would_do_nothing_or_cannot_be_done_is_refused(said: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint):
        spec(**said)


@pytest.mark.parametrize(
    "image", ["tensorflow/serving:2.16.1", "here:5000/mine:v1-gpu", f"tensorflow/serving@sha256:{'0' * 64}"]
)
def test_an_image_is_named_by_tag_or_digest(image: str) -> None:
    assert spec(images=[image]).images == (image,)


def test_what_is_asked_of_a_model_is_part_of_the_work_and_where_it_is_asked_is_not() -> None:
    (plain,), (same,) = spec().pieces(), spec(docker={"host": "unix:///x"}, load_timeout="1m").pieces()
    assert plain.settings == same.settings == {}
    (other,) = spec(runner="docker", warmup=True, max_latency="50ms").pieces()
    assert other.settings == {"runner": "docker", "warmup": True, "max_latency": "50ms"}


def test_a_shared_object_is_named_relative_to_the_file_and_a_package_is_not() -> None:
    said = {"kind": "infra_validator", "op_libraries": ["struct2tensor", "my.ops", "../ops/my.so", "/opt/o.so", "o.so"]}
    read = InfraValidatorSpec.model_validate(said, context={"base": "/site/specs"})
    expected = ("struct2tensor", "my.ops", "/site/ops/my.so", "/opt/o.so", "/site/specs/o.so")
    assert read.op_libraries == expected


def test_a_validator_without_libraries_is_known_by_what_it_was_known_by_before() -> None:
    assert "op_libraries" not in spec().settings()
