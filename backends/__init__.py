"""What a target is, and how a deployed network becomes measured time on it."""
