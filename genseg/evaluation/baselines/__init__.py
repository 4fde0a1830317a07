"""Other ways to segment, on the same features as modulation or on colours alone, to measure it against."""
