"""Plug-ins that other programs load at their start, by entry points.

The modules import fastlib only when they are used. So Hypothesis and pytest start as fast as
without fastlib. A module inside fastlib could not do that, because it would import all messages.
"""
