"""The first process of the laboratory and of each host."""
