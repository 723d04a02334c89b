"""The wire: one table of routes, their models, and the handlers behind them."""
