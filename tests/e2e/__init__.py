"""The whole way on a rack of real parts."""
