"""The process on every DPU: makes ports and flows what the node's objects ask for, wires pods, and says Ready from what it reads back.

Law of this package: observe, let the core decide, act through one door, observe again. The switch comes first: no write to the API server
is waited for before packets pass. What belongs to nobody here is never touched, and nothing is removed as long as it is not known what is
wanted.
"""
