"""What a daemon tells of itself: presence, counters, metrics, logs."""
