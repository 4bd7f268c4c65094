"""The samples of a sequencing run."""


def samples(ctx):
    """Their names, from the sheet."""
    return ctx.inputs[0].read_text().split()
