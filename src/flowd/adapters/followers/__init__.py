"""adapters/followers."""
