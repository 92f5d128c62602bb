"""`python -m palo_cpp` is `palo-cpp`."""

from palo_cpp.cli import main

if __name__ == "__main__":
    main()
