"""Read and change one domain, its XML and its devices."""
