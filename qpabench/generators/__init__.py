"""What produces the numbers of a target: direct, QPA and its controls."""
