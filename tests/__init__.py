"""The tests, one folder for each package of fastlib; their helpers are in support/."""
