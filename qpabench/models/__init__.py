"""Language models: what is loaded, from the hub, a folder or a package."""
