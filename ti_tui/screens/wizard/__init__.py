"""The wizard: from a folder of photographs to a started run."""
