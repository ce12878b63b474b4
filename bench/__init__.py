"""The figures of the project, measured on a rack of real parts; README.md tells how."""
