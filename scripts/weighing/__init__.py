"""The weight of a daemon: what it holds over time, and how long its API has people wait."""
