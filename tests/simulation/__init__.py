"""The whole road of mediation under injected faults, from a seed. See ``test_simulation.py`` for how to run it longer."""
