"""The token service's door."""
