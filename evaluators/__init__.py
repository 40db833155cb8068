"""What a candidate is worth: accuracy, stored bytes, counts and measured latency."""
