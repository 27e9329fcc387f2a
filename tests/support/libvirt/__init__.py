"""A played libvirt and its devices."""
