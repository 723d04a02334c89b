"""Paid work runs: durable PgQueuer tasks, one run of a worker each, and the sweep that finds what lost its task."""
