"""Measurements of ctd, each with its command, such as `python -m bench.planner`. No bound is asserted here."""
