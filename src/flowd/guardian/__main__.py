"""Where the guardian process begins: `python -I -S .../guardian/__main__.py DESCRIPTOR TAG_BASE MARK`.

It runs without site-packages. An empty package stands in for `flowd`, so that the rooms of the
guardian are found under their real names without opening flowd's front door.
"""

import sys
from os.path import abspath, dirname


def main() -> None:
    """Serve the engine behind the descriptor named on the command line until it is gone."""
    package = type(sys)("flowd")
    package.__path__ = [dirname(dirname(abspath(__file__)))]
    sys.modules["flowd"] = package
    from flowd.guardian.serving import serve

    serve(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])


if __name__ == "__main__":
    main()
