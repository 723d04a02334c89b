"""The book: accounts, immutable transfers, migrations, audit. Knows neither HTTP nor Lightning."""
