"""From configuration to a graph of living objects: the one room that names adapters."""
