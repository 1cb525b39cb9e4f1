"""Schedules cells and runs each in a process of its own."""
