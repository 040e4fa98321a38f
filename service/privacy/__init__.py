"""What may be kept, for how long, and the proof of what was done with it."""
