"""The report of a run as one self-contained page. `page.write_report` makes it. No torch."""
