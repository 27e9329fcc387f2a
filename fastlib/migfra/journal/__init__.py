"""The record on the disk of accepted, begun, ended and answered orders."""
