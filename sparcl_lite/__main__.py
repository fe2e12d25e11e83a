"""`python -m sparcl_lite` is `sparcl-lite`."""

from sparcl_lite.cli import main

if __name__ == "__main__":
    main()
