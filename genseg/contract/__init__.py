"""The promises that every backend keeps, as checks."""
