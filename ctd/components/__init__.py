"""The work: of each component the module of its name, with `run(work)`, and what these stand on.

Only ever imported in the process of an execution. `api` is what a component is given and may use. Components read
their inputs, write below their staging directory, and know nothing of plans, metadata or each other.
"""
