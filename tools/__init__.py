"""The commands of `./dev`. Nothing here is part of the installed package."""
