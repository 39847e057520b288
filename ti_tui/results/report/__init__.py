"""The report of a run: one page that needs nothing else. `page.write_report` makes it; nothing here knows torch."""
