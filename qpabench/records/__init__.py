"""What a cell leaves behind: one record file, its series, and where they came from."""
