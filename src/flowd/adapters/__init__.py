"""The outside world: one module for each thing the engine meets through a port."""
