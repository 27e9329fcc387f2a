"""The daemon as a service of the host: background process, systemd, one instance."""
