"""Showing: what the daemon tells the outside world, as read models and an HTTP application over a unix socket.

Renaming a domain field never breaks a script: `models` is the contract of every `--json`.
"""
