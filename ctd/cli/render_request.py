"""A request to a model as text: curl for REST, Python for gRPC."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from typing import Any

from ctd.api.models import LiveView
from ctd.api.samples import RequestView, RestView
from ctd.cli.text import clean, counted
from ctd.specs.targets import Server

_PYTHON = """\
import base64
import grpc
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

request = predict_pb2.PredictRequest()
request.model_spec.name = {model}
request.model_spec.signature_name = {signature}
{inputs}
with {channel} as channel:
    print(prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict(request, timeout=10))
"""


def request_view(
    pipeline: str, live: LiveView, made: Mapping[str, Any], server: Server | None, at: Mapping[str, str]
) -> RequestView:
    """The request that was made, for servers that listen there."""
    model = (server.model if server else None) or pipeline
    rest = RestView(url=f"http://{at['rest']}/v1/models/{model}:predict", body=_body(made))
    base = shlex.quote(live.path)
    ports = "--port={} --rest_api_port={}".format(*(address.rpartition(":")[2] for address in (at["grpc"], at["rest"])))
    return RequestView(
        pipeline=pipeline,
        target=live.target,
        version=live.version or 0,
        model=model,
        signature=made["signature"],
        row=made["row"],
        filled=made["filled"],
        notes=made["notes"],
        rest=rest,
        curl=f"curl -d {shlex.quote(json.dumps(rest.body))} {shlex.quote(rest.url)}",
        python=_python(model, made, server, at["grpc"]),
        serve="" if server else f"ctd serve --model_name={model} --model_base_path={base} {ports}",
    )


def text(view: RequestView) -> str:
    """To be read, and pasted piece by piece."""
    lines = [
        f"# {view.pipeline}, version {view.version} on {view.target}, signature {view.signature}; the values sent:"
    ]
    lines.append(f"#   {json.dumps(view.row, ensure_ascii=False)}")
    if view.filled:
        lines.append(
            f"# {counted(len(view.filled), 'column')} not in --row, from a real example: {', '.join(view.filled)}"
        )
    lines += [f"# {note}" for note in view.notes]
    if view.serve:
        lines += ["", "# A server, if none runs yet:", f"{view.serve} &"]
    lines += ["", "# REST", view.curl, "", "# gRPC, in Python (pip install tensorflow-serving-api)"]
    return clean("\n".join(lines) + "\n", lines=True) + view.python


def _body(made: Mapping[str, Any]) -> dict[str, Any]:
    signature = {} if made["signature"] == "serving_default" else {"signature_name": made["signature"]}
    if made["kind"] == "examples":
        return {**signature, "instances": [{"b64": made["b64"]}]}
    tensors = made["tensors"]
    alone = next(iter(tensors.values()))
    sizes = {len(value) for value in tensors.values() if isinstance(value, list)}
    if not made["batched"] or len(sizes) != 1:
        return {**signature, "inputs": alone if len(tensors) == 1 and not isinstance(alone, dict) else tensors}
    if len(tensors) == 1:
        return {**signature, "instances": alone}
    (size,) = sizes
    return {**signature, "instances": [{name: value[i] for name, value in tensors.items()} for i in range(size)]}


def _python(model: str, made: Mapping[str, Any], server: Server | None, address: str) -> str:
    if made["kind"] == "examples":
        example = f"base64.b64decode({made['b64']!r})"
        inputs = [f"request.inputs[{made['input']!r}].CopyFrom(tf.make_tensor_proto([{example}]))"]
    else:
        typed = {
            name: f"{_literal(value)}, tf.{_dtype(made['dtypes'][name])}" for name, value in made["tensors"].items()
        }
        inputs = [f"request.inputs[{name!r}].CopyFrom(tf.make_tensor_proto({said}))" for name, said in typed.items()]
    return _PYTHON.format(
        model=repr(model),
        signature=repr(made["signature"]),
        inputs="\n".join(inputs),
        channel=_channel(server, address),
    )


def _literal(value: Any) -> str:
    """JSON as Python, bytes decoded where it runs."""
    if isinstance(value, dict):
        return f"base64.b64decode({value['b64']!r})"
    if isinstance(value, list):
        return f"[{', '.join(map(_literal, value))}]"
    return repr(value)


def _dtype(name: str) -> str:
    return {"float": "float32", "double": "float64", "half": "float16"}.get(name, name)


def _channel(server: Server | None, address: str) -> str:
    """A connection as the target's file describes the server."""
    where = repr(address)
    if server is None or server.tls is None:
        return f"grpc.insecure_channel({where})"
    pem = (server.tls.ca, server.tls.key, server.tls.cert)
    files = ", ".join("None" if path is None else f"open({path!r}, 'rb').read()" for path in pem)
    return f"grpc.secure_channel({where}, grpc.ssl_channel_credentials({files}))"
