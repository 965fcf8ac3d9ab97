"""The parts of `make demo`: the acts, the folder and processes they play in, what they see, and how they show it."""
