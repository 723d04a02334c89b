"""Benchmarks: everything compared in one run, on one server, as ratios."""
