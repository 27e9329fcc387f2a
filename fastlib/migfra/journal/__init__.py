"""What was accepted, begun, done and answered, on the disk."""
