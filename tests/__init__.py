"""The tests, one folder for each room of fastlib; their helpers are in support/."""
