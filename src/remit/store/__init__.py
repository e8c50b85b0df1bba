"""Second floor, left: remit's own memory."""
