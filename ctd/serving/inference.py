"""The calls of the PredictionService on a loaded version: from request message to response message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from ctd.serving import codec, examples
from ctd.serving.codec import Array
from ctd.serving.errors import Code, ServingError, invalid
from ctd.serving.loader import Signature

DEFAULT_SIGNATURE = "serving_default"
_CLASSIFY = "tensorflow/serving/classify"
_REGRESS = "tensorflow/serving/regress"


class Runnable(Protocol):
    """A loaded version, or one request's view of it."""

    signatures: Mapping[str, Signature]
    signature_defs: Mapping[str, Any]

    def run(
        self, signature: Signature, feeds: Mapping[str, Array], outputs: Sequence[str] = ()
    ) -> dict[str, Array]: ...


def find_signature(servable: Runnable, name: str, complaint: str, code: Code = Code.INVALID_ARGUMENT) -> Signature:
    """The signature of this name, or the default one; `complaint` is the error with {} for the name."""
    wish = name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(wish)
    if signature is None:
        raise ServingError(code, complaint.format(wish))
    return signature


def fill_spec(spec: Any, name: str, version: int, signature: str) -> None:
    """Say in a response which model, version and signature answered."""
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature


def predict(servable: Runnable, version: int, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Run any signature on tensors."""
    signature = find_signature(
        servable, request.model_spec.signature_name, 'Serving signature key "{}" not found.', Code.FAILED_PRECONDITION
    )
    feeds = {alias: codec.from_proto(proto) for alias, proto in request.inputs.items()}
    complete = complete_inputs(signature, feeds)
    outputs = servable.run(signature, complete, _chosen_outputs(signature, request.output_filter))
    response = predict_pb2.PredictResponse()
    fill_spec(response.model_spec, request.model_spec.name, version, signature.name)
    for alias, array in outputs.items():
        codec.fill_proto(response.outputs[alias], array)
    return response


def complete_inputs(signature: Signature, feeds: Mapping[str, Array]) -> Mapping[str, Array]:
    """The inputs with the signature's defaults for those that were left out; they must be the signature's inputs."""
    if feeds.keys() == signature.inputs.keys():
        return feeds
    complete = {**signature.defaults, **feeds}
    extra, missing = feeds.keys() - signature.inputs.keys(), signature.inputs.keys() - complete.keys()
    if not extra and not missing:
        return complete
    if len(feeds) == len(signature.inputs):
        raise invalid(
            f"input tensor alias not found in signature: {min(extra)}. Inputs expected to be in the set "
            f"{_braced(signature.inputs)}."
        )
    raise invalid(
        f"input size does not match signature: {len(feeds)}!={len(signature.inputs)} len({_braced(feeds)}) != "
        f"len({_braced(signature.inputs)}). Sent extra: {_braced(extra)}. Missing but required: {_braced(missing)}."
    )


def _braced(names: Any) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _chosen_outputs(signature: Signature, chosen: Sequence[str]) -> Sequence[str]:
    for position, alias in enumerate(chosen):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_braced(signature.outputs)}."
            )
        if alias in chosen[:position]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return chosen


def classify(
    servable: Runnable, version: int, request: classification_pb2.ClassificationRequest
) -> classification_pb2.ClassificationResponse:
    """Run a signature that takes serialized Examples and gives classes, scores or both."""
    signature = find_signature(servable, request.model_spec.signature_name, "No signature was found with the name: {}")
    response = classification_pb2.ClassificationResponse()
    fill_spec(response.model_spec, request.model_spec.name, version, signature.name)
    _fill_classifications(servable, signature, examples.serialized(request.input), response.result)
    return response


def regress(
    servable: Runnable, version: int, request: regression_pb2.RegressionRequest
) -> regression_pb2.RegressionResponse:
    """Run a signature that takes serialized Examples and gives one number for each."""
    signature = find_signature(servable, request.model_spec.signature_name, "No signature was found with the name: {}")
    response = regression_pb2.RegressionResponse()
    fill_spec(response.model_spec, request.model_spec.name, version, signature.name)
    _fill_regressions(servable, signature, examples.serialized(request.input), response.result)
    return response


def multi_inference(
    servable: Runnable, version: int, request: inference_pb2.MultiInferenceRequest
) -> inference_pb2.MultiInferenceResponse:
    """Classify and regress the same Examples in one request."""
    _check_tasks(request.tasks)
    records = examples.serialized(request.input)
    response = inference_pb2.MultiInferenceResponse()
    for task in request.tasks:
        signature = find_signature(
            servable, task.model_spec.signature_name, "Requested signature not found in model graph: {}"
        )
        result = response.results.add()
        fill_spec(result.model_spec, task.model_spec.name, version, signature.name)
        if task.method_name == _CLASSIFY:
            _fill_classifications(servable, signature, records, result.classification_result)
        elif task.method_name == _REGRESS:
            _fill_regressions(servable, signature, records, result.regression_result)
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
    return response


def _check_tasks(tasks: Sequence[Any]) -> None:
    if not tasks:
        raise invalid("MultiInferenceRequest has no tasks")
    if any(not task.model_spec.name for task in tasks):
        raise invalid("Found ModelSpec with an empty model name.")
    if len({task.model_spec.name for task in tasks}) > 1:
        raise invalid("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
    seen: set[str] = set()
    for task in tasks:
        name = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if name in seen:
            raise invalid(f"Duplicate evaluation of signature: {name}")
        seen.add(name)


def metadata(servable: Runnable, version: int, request: Any) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a version."""
    if not request.metadata_field:
        raise invalid("GetModelMetadataRequest must specify at least one metadata_field")
    unknown = [field for field in request.metadata_field if field != "signature_def"]
    if unknown:
        raise invalid(f"Metadata field {unknown[0]} is not supported")
    signatures = get_model_metadata_pb2.SignatureDefMap()
    for name, definition in servable.signature_defs.items():
        signatures.signature_def[name].CopyFrom(definition)
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    response.model_spec.name = request.model_spec.name
    response.model_spec.version.value = version
    response.metadata["signature_def"].Pack(signatures)
    return response


def _check_examples_input(signature: Signature, kind: str) -> None:
    if len(signature.inputs) != 1:
        raise invalid("Expected one input Tensor.")
    if "inputs" not in signature.inputs:
        found = ",".join(signature.inputs)
        raise ServingError(Code.FAILED_PRECONDITION, f"No {kind} inputs found in SignatureDef: {found}")


def _fill_classifications(servable: Runnable, signature: Signature, records: Array, result: Any) -> None:
    _check_examples_input(signature, "classification")
    names = [name for name in ("classes", "scores") if name in signature.outputs]
    if not names:
        raise ServingError(
            Code.FAILED_PRECONDITION,
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {','.join(signature.outputs)}",
        )
    outputs = servable.run(signature, {"inputs": records}, names)
    for name, array in outputs.items():
        _check_classes(name, array, len(records))
    if len(outputs) == 2 and outputs["classes"].shape != outputs["scores"].shape:
        raise invalid(
            "Tensors class and score should match in dim_size(1). Got "
            f"{outputs['classes'].shape[1]} vs. {outputs['scores'].shape[1]}"
        )
    classes, scores = outputs.get("classes"), outputs.get("scores")
    for row in range(len(records)):
        classification = result.classifications.add()
        for column in range(outputs[names[0]].shape[1]):
            entry = classification.classes.add()
            if classes is not None:
                entry.label = classes[row, column].decode(errors="replace")
            if scores is not None:
                entry.score = scores[row, column]


def _check_classes(name: str, array: Array, batch: int) -> None:
    expected = "string" if name == "classes" else "float"
    if array.ndim != 2:
        raise invalid(f"Expected Tensor shape: [batch_size num_classes] but got {list(array.shape)}")
    if codec.element_type_of(array).name != expected:
        raise invalid(f"Expected {name} Tensor of DT_{expected.upper()}. Got: {codec.element_type_of(array).name}")
    if len(array) != batch:
        raise invalid(f"Expected {name} output batch size of {batch}. Got: {len(array)}")


def _fill_regressions(servable: Runnable, signature: Signature, records: Array, result: Any) -> None:
    _check_examples_input(signature, "regression")
    if "outputs" not in signature.outputs:
        found = ",".join(signature.outputs)
        raise ServingError(Code.FAILED_PRECONDITION, f"No regression outputs found in SignatureDef: {found}")
    values = servable.run(signature, {"inputs": records}, ["outputs"])["outputs"]
    if not (values.ndim == 1 or (values.ndim == 2 and values.shape[1] == 1)):
        raise invalid(
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(values.shape)}"
        )
    if len(values) != len(records):
        raise invalid(f"Input batch size did not match output batch size: {len(records)} vs. {len(values)}")
    if codec.element_type_of(values).name != "float":
        raise invalid(f"Expected output Tensor of DT_FLOAT. Got: {codec.element_type_of(values).name}")
    for value in values.ravel().tolist():
        result.regressions.add().value = value
