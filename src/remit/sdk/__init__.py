"""The Python door: remit inside a program, by itself or as a client of a server. Imports wire, model, errors; nothing else."""
