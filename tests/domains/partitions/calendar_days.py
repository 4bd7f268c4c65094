"""Days as they are partitioned."""


def days(count):
    """The first days of a month, as objects."""
    return [{"day": f"2026-11-{number:02d}"} for number in range(1, count + 1)]
