"""`ctd schema`: what editors need to complete and check specs."""

from __future__ import annotations

import json

import click

from ctd.specs.schema import pipeline_schema, target_schema


@click.command()
@click.argument("kind", type=click.Choice(["pipeline", "target"]), default="pipeline")
def schema(kind: str) -> int:
    """The JSON Schema of a pipeline's file (the default) or a target's, on standard output.

    \b
    For editors with the YAML language server: keep it in a file,
      ctd schema pipeline > pipeline.schema.json
    and begin each spec with
      # yaml-language-server: $schema=pipeline.schema.json
    """
    click.echo(json.dumps(pipeline_schema() if kind == "pipeline" else target_schema(), indent=2))
    return 0
