"""Records -> tables, figures, Markdown; nothing here trains, measures or asks a plugin."""
