"""What other programs load at their start, by entry points.

Each module here imports nothing of fastlib until it is used, so that Hypothesis and pytest start as
fast as without it, also for those who use neither with fastlib. A module within fastlib could not
do that, as it brings all messages with it.
"""
