"""``python -m qpabench``."""

from qpabench.cli import main

if __name__ == "__main__":
    main()
