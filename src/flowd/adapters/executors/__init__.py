"""adapters/executors."""
