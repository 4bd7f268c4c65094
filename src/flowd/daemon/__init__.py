"""What runs pipelines by itself: schedules, triggers, notices, keeping, the API; it meets adapters through ports."""
