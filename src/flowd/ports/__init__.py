"""The doors of the house: what the engine asks of the outside world, as Protocols.

A port is defined by its conformance suite in `flowd.testing`, which every adapter inherits.
"""
