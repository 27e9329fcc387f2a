"""Tasks of the simulated hypervisor that have their own file."""
