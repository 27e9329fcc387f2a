"""Text and tables for people and programs, shared by the command line and the demo."""
