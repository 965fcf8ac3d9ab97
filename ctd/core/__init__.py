"""The words of ctd: spans, artifacts, executions, fingerprints, selectors, errors, and the clock as a parameter.

Standard library only, no I/O. Whatever needs a file, a process or a library lives above.
"""
