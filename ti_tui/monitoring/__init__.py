"""A run seen from outside while it trains: its log in words, what one changes in it. The dashboard's brain."""
