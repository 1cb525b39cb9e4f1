"""From a TOML file to frozen cells and the plan of what would run."""
