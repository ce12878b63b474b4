"""A fleet on one machine: real API servers, our real controllers, and a thousand agents whose switches are kept in memory.

Law of this package: what is measured runs as it does in life, as a process of its own whose processor time and memory the kernel counts;
beside each rate stands that of a bare client which does the same writes, in the same run, on the same cluster, with the same agents.
"""
