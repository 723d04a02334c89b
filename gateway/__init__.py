"""The gateway: jobs are priced, invoiced, settled, worked, refunded. Folders follow the way of a payment."""
