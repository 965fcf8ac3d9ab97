"""What to do: from a spec and an observed world to a plan, as pure functions.

`world` is what is looked at, `resolve` finds the inputs of a piece of work, `decide` says what to do about it,
`reasons` says why in words with numbers, `plan` goes through a pipeline. While something newer is on its way, `judging`
says which model is worked on, `coalescing` how long data waits for more, and `results` what either may use (decision
023). Nothing here reads or writes anything.
"""
