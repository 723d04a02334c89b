"""Prepaid balances: opened by a deposit, debited request by request, closed with a refund of the rest."""
