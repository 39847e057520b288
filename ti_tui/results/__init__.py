"""What comes out of runs: outcomes, comparisons, the grid, the report. No torch, no textual."""
