"""CPU schedules, one module for each lowering."""
