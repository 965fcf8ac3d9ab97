"""Noticing: which paths changed, and therefore which pipelines to look at again.

What belongs here says *who* should look, never what happened or what to do: the facts are read again by whoever
looks. A missed event may cost latency, never correctness.
"""
