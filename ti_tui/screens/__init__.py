"""The screens: wizard, dashboard and their shared parts. They talk to the trainer only through the run folder."""
