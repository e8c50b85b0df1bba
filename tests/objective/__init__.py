"""With the small model itself: `make test-objective`."""
