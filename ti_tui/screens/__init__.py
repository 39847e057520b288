"""The screens: wizard, dashboard and what both use. They meet the trainer only in the run folder."""
