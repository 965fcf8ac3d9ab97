"""Bytes: what lies where, what spans have arrived, and the digests of files, folders and the user's code.

Reads, and knows the layout of the state directory; writes nothing. What the facts mean is decided elsewhere.
"""
