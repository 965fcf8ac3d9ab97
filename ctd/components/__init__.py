"""The work: one file per component, only ever imported in the process of an execution.

`api` is what a component is given and may use. Components read their inputs, write below their staging
directory, and know nothing of plans, metadata or each other.
"""
