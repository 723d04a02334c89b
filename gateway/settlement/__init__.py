"""LND says settled: the watcher tells, the webhook checks and books, the sweep finds what was never told."""
