"""PEFT targets: where the generated numbers go in the model."""
