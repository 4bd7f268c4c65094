"""Clips and what becomes of them."""


def clips():
    """What was filmed today."""
    return ["harbour", "market"]


def encode(clip):
    """The name of the encoded file."""
    return f"{clip}.mp4"


def playlist(files):
    """All of them in order."""
    return ", ".join(files)
