"""Answering: a model server that speaks TensorFlow Serving's gRPC and REST, and the sandbox that tries models in it.

`python -m ctd.serving` is a process of its own. It takes the flags of `tensorflow_model_server` and follows its rules:
numbered version directories, availability first, the same states, errors and JSON. `sandbox` and `client` are the only
modules that other parts of ctd use; everything else lives inside the server's process. Nothing here knows pipelines,
metadata or plans.
"""
