"""Looks a state directory over: what is wrong, what to do about it, and the repairs that are safe."""
