"""Texts: from the hub, a folder, files or a package."""
