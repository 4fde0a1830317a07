"""The contract of backends, as checks."""
