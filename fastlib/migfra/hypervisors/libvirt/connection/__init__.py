"""Connections to the hosts' libvirt, and their URIs."""
