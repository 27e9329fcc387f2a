"""Tasks of the simulated hypervisor that have a file of their own."""
