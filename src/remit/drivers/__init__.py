"""Second floor, right: other people's systems, one system a file."""
