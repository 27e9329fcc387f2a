"""Slots for migrations, which the daemons of all hosts share by libvirt."""
