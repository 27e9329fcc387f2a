"""Knowledge of virtual machines that hypervisors share: names, XML, placement, pre-copy."""
