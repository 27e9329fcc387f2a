"""What runs inside: the first process of the laboratory and of each host."""
