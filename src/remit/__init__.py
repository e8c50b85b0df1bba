"""remit: runtime authorization for AI agents. An agent acts within its remit, or not at all."""

__version__ = "0.1.0"
