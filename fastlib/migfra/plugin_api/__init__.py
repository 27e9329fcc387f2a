"""The contract with hypervisors: their base class, their context, and how they are found."""
