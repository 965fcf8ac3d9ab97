"""Tests by kind; a package, because libraries bring a package `tests` of their own onto the path."""
