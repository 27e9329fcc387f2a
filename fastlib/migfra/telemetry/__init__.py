"""The daemon's reports about itself: presence, counters, metrics, logs."""
