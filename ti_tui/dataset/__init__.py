"""Training images and their captions: find, check, prepare, and turn into prompts. No torch."""
