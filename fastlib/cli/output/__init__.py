"""What the commands print: problems, logs, progress and live tables."""
