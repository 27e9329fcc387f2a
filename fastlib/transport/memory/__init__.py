"""The broker in this process, and the link to it."""
