"""Move a domain to another host, or swap two."""
