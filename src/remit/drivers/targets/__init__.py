"""Targets: systems on which remit mints credentials. One system a file; ``docs/targets.md`` tells how to add one."""
