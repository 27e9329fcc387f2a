"""A fake libvirt with hosts, domains and devices, and a hypervisor with the driver `test`."""
