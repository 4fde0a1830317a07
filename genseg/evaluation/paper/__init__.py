"""The tables of the EmerDiff paper and their reproduction."""
