"""Notifiers: each brings a message to the URLs of some schemes; `routes` knows which."""
