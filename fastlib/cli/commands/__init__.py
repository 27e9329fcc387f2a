"""The commands of `fastlib`, one module each, with `add_arguments` and `run`."""
