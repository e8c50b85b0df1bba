"""Third floor: use cases, effects in the right order."""
