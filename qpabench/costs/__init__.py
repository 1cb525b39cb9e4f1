"""What a plan would cost here, in time and memory: from a short calibration that is kept."""
