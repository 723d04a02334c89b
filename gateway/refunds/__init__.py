"""What was not used goes back: a debt is claimed by one pinned invoice, sent by one leased executor, paid once."""
