"""Connections to the hosts' libvirt, and where it is."""
