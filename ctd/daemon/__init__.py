"""Living: the daemon's parts wired together (`app`), its start (`startup`, `lock`), its loop (`controller`).

`health` looks after what the daemon itself needs, `wanted` holds the specs in force, `views` turns what is known into
answers.
"""
