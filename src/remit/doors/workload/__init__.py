"""The SPIFFE Workload API."""
