"""Drills: known incidents, one module each, played by ``remit drill`` on a stage that is thrown away."""
