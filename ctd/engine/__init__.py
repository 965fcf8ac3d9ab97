"""Making it so: the queue of pipelines to look at, the processes that do the work, and putting results in place.

The engine names components as text; only the child processes (`worker`, `template`) import them. What to do is
decided in `planning`, never here. `endings` records every end whatever goes wrong, `blame` says whose fault a failure
is, and while the machine refuses what workers need, `readiness` lets nothing start (decision 024).
"""
