"""Asking: the commands. Each parses, asks the daemon or a state directory, and renders; none decides anything.

`main` knows the commands by name and imports a command's module only when it is called, so that help is instant.
"""
