"""Settings of other trainers: read into the settings of a run, and written from them. No torch."""
