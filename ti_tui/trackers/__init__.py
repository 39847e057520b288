"""Tells other programs about a run: TensorBoard, Weights & Biases, and commands of the user. No torch."""
