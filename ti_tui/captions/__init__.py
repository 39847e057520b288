"""The caption desk: captions as they are reviewed, filtered and edited. No torch, no textual."""
