"""A daemon put together from its settings."""
