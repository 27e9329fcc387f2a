"""The link to a broker in this process."""
