"""The executable that Multus calls for a pod's interface on the bridge.

Law of this package: the standard library alone, and no decision: it hands the call to the agent of its node and prints the answer. What it
could not hand over is an error, never a success.
"""
