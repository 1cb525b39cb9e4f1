"""Backend-neutral circuits, ansätze, the native state vector and gradient estimators."""
