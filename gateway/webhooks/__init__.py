"""Outgoing webhooks: job and refund events for integrators, at least once, signed as Standard Webhooks says."""
