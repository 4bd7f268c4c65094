"""flowd: a concurrent, durable task executor for pipelines."""
