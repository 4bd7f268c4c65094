"""The fault suite: families of faults injected into flowd's real commands, each judged by what the contract promises.

`__main__` runs the families of `families`; `family` says what a family is. `command` starts flowd and
`living` finds processes, for all of them.
"""


class Skipped(Exception):
    """A family cannot be run on this machine; the message says why."""
