"""Living: the daemon's parts wired together (`app`), its loop (`controller`), its start and end (`lifecycle`).

`wanted` holds the specs that are in force, `views` turns what is known into answers.
"""
