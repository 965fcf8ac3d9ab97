"""A soak: the real daemon and real nodes under a feed that never stops, among faults. It is held to invariants.

    python -m tests.soak --minutes 30 --seed 1

`schedule` says what happens when, by the seed alone; `generator` feeds, `faults`, `people` and `damage` harm;
`seen` takes down what is there; `invariants` and `tempo` are functions over that: they say what is wrong, and know
nothing of how it came about. `campaign` goes through the schedule and asks them, `scratch` compares the end with a run
that saw no fault. `history.jsonl` has all of it in order.
"""
