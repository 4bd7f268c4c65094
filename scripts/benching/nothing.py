"""What W11's tasks do. It imports nothing: what a task's module imports costs each process that it is imported in."""


def nothing() -> None:
    """Return at once."""
