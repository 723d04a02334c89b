"""What the operator does, whether by page, API or command: one use case each, and a line in the log of actions."""
