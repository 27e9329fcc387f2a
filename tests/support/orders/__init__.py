"""Random legal orders to daemons of the laboratory, and the rule that each of them must keep.

| file | |
|---|---|
| `scenario.py` | a scenario: domains in their prior states, and orders with faults |
| `generation.py` | scenarios of a seed, drawn from `fastlib.testing.strategies` |
| `fleet_view.py` | what the libvirt of all hosts says, asked without fastlib |
| `prior_states.py` | bring the domains of a scenario about |
| `faults.py` | the faults that hit an order |
| `rule.py` | compare the fleet before and after an order with the order and its answer |
| `run.py` | run a scenario |
| `shrinking.py` | shorten a scenario that fails |
"""
