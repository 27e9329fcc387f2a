"""Slots for migrations. The daemons of all hosts share them through libvirt."""
