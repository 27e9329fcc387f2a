"""The way of a task: received, decoded, dispatched, executed, answered, published."""
