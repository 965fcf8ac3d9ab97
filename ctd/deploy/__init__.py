"""Handing over: how a model becomes a version at a destination, atomically, once, and verified.

One module per kind of target. They know directories and the server's answer, not pipelines, metadata or blessings:
whether a model may be pushed was decided before. Nothing here imports TensorFlow.
"""
