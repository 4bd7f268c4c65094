"""The core decides: pure, synchronous, no clock, no IO, no logging."""
