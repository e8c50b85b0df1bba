"""Ground floor: nouns. Frozen dataclasses; no I/O, no clock, no randomness."""
