"""Makes the demo model from nothing: `python -m tools.demo_model OUT`. See __main__.py."""
