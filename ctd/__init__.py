"""ctd keeps models fresh: it watches spans of data and YAML specs, and pushes only models that are blessed."""

__version__ = "0.1.0"
