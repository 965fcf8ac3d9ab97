"""Facts: executions, artifacts and events in ML Metadata, in the form that TFX's own readers understand.

`store` has the protocol and the in-memory store, `mlmd` the real store, `convert` the mapping to MLMD's protos,
`recorded` the way back to values, `sqlite_reading` what a start reads past MLMD, `connection` what is done when MLMD
breaks, `identity` whose database it is. Only the daemon writes, and only here.
"""
