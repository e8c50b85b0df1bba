"""Benchmarks: ratios measured side by side in one run, medians of several. ``python -m bench [part …]``."""
