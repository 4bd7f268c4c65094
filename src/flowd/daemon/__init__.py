"""What runs pipelines by itself: schedules, triggers, notices, keeping, and the API; it meets adapters through ports."""
