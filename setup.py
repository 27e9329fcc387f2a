"""Pass the compiled modules to setuptools. Everything else is in pyproject.toml."""

from fastlib_build import extensions
from setuptools import setup

setup(ext_modules=extensions())
