"""For plugin authors: the conformance kit, its pytest form, a scaffold and a quick self-test."""
