"""Fourth floor: translate in, call a service, translate out. No rules here."""
