"""The ground floor: what a run is, on disk and in words. Imports no torch and no textual."""
