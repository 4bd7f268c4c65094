"""A small child process, one per engine: parent and subreaper of every task process.

House rules of this room. It imports nothing else of flowd and only what is cheap of the
standard library, so that it starts in milliseconds (`__main__` says how). It has one thread and
one loop, never waits for the end of a pipe, and outlives the engine just long enough to end
what the engine left. The engine's side may import `wire`,
`processes`, `strays` and `cgroup` from here.
"""
