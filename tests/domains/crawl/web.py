"""A site one of whose pages is away until somebody mends it."""

from pathlib import Path


def fetch(page):
    """Its text; an error where it is away. Every fetch is written down."""
    with Path("fetched").open("a") as fetched:
        fetched.write(f"{page}\n")
    if page == "c" and not Path("mended").exists():
        raise ConnectionError(f"{page} is away")
    return page * 3


def index(pages):
    """What was found."""
    return [page for page in pages if page is not None]
