"""What the user reads: tables of layers and decisions, stages as text, timings."""
