"""The benchmark suite behind `scripts/bench`: flowd beside floors that are measured in the same run."""
