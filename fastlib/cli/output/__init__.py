"""The output of the commands: problems, logs, progress and live tables."""
