"""The interface of hypervisors: their base class, their context, and their discovery."""
