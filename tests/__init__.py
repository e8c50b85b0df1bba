"""The tests of remit."""
