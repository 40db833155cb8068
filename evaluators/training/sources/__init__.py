"""Where images come from: one file adds one kind of source."""
