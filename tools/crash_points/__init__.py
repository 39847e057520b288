"""What is left when a process ends, or the disk fails, at any one of its changes to files."""
