"""The fault run of leases: everything that is to be survived, on a real PostgreSQL, each with the count of credentials that were left.

``make faults`` runs it in full size, ``tests/integration/test_fault_run.py`` in small.
"""
