"""Shell texts whose processes are hard to end; each says `ready` once they are all there.

`{token}` is a number of seconds that nobody else sleeps, so that every process of a shape has it in its
command line.
"""

from __future__ import annotations

UNMARKED = "has taken off every mark"
"""Its strays are known by nothing but the control group they stand in."""

NASTY = {
    "ignores SIGTERM": "trap '' TERM; echo ready; while :; do sleep {token}; done",
    "has background children": "sleep {token} & sleep {token} & echo ready; wait",
    "has a child in its own session": "setsid sleep {token} & echo ready; wait",
    "has a child behind nohup": "nohup sh -c 'trap \"\" TERM; sleep {token}; sleep {token}' & echo ready; wait",
    "has double-forked": "(setsid sh -c 'sleep {token} & sleep {token} &' &); echo ready; sleep {token}",
    "has wiped an environment": (
        "(env -i setsid sh -c 'env -i sleep {token} & sleep {token}' &); echo ready; sleep {token}"
    ),
    UNMARKED: (
        "(env -i setsid sh -c 'ulimit -w 7 2>&- || ulimit -x 7; sleep {token} & sleep {token} &' &);"
        " echo ready; sleep {token}"
    ),
    "has a stubborn stray": (
        "(env -i setsid sh -c 'trap \"\" TERM; while :; do sleep {token}; done' &); echo ready; sleep {token}"
    ),
    "has stopped itself": "sleep {token} & echo ready; kill -STOP $$",
    "has a stopped stray": "(setsid sh -c 'kill -STOP $$; sleep {token}' &); echo ready; sleep {token}",
    "forks on SIGTERM": (
        "trap 'setsid sleep {token} & sleep {token} &' TERM; echo ready; while :; do sleep 0.01; done; : {token}"
    ),
    "keeps forking": "f() {{ sleep 0.002; f & }}; f; echo ready; sleep {token}",
    "has closed its streams": "echo ready; exec <&- >&- 2>&-; sleep {token} & sleep {token}",
    "ignores all it can": "trap '' TERM INT HUP QUIT PIPE USR1 USR2; echo ready; while :; do sleep {token}; done",
    "has a pipeline": "sleep {token} | cat | sh -c 'trap \"\" TERM; cat; : {token}' & echo ready; wait",
    "has a chain of sessions": (
        "(setsid sh -c '(setsid sh -c \"(env -i setsid sleep {token} &) ; sleep {token}\" &); sleep {token}' &);"
        " echo ready; sleep {token}"
    ),
    "is a daemon with a stubborn child": (
        "(env -i setsid sh -c 'exec <&- >&- 2>&-; cd /;"
        ' (trap "" TERM; sleep {token}; sleep {token}) & sleep {token}\' &);'
        " echo ready; trap '' TERM; while :; do sleep {token}; done"
    ),
}

LEFT_BEHIND = {
    "leaves background children": "sleep {token} & sleep {token} & echo ready",
    "leaves a wiped double fork": (
        "(env -i setsid sh -c 'env -i sleep {token} & sleep {token}' &); echo ready; sleep 0.05"
    ),
    "leaves a stubborn stray": (
        "(setsid sh -c 'exec <&- >&- 2>&-; trap \"\" TERM; while :; do sleep {token}; done' &); echo ready; sleep 0.05"
    ),
    "leaves a stopped stray": "(setsid sh -c 'kill -STOP $$; sleep {token}' &); echo ready; sleep 0.05",
}
"""Texts that end well themselves and leave others behind."""
