"""What is wanted: pipelines, targets and settings as pydantic models, and the way from YAML to them.

The only package that knows YAML. A spec declares what each node takes and makes; what follows from that is
decided in `planning`.
"""
