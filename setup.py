"""Pass to setuptools what a file cannot declare. Everything else is in pyproject.toml."""

from fastlib_build import extensions
from long_description import long_description
from project_urls import project_urls
from setuptools import setup

urls = project_urls()
setup(
    ext_modules=extensions(),
    long_description=long_description(urls.get("Repository")),
    long_description_content_type="text/markdown; charset=UTF-8; variant=GFM",
    project_urls=urls,
)
