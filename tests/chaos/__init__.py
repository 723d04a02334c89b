"""Chaos: real processes, nodes and database, killed and frozen at random under load; every sat is accounted for."""
