"""The process of a DPU cluster: from each set to one object on each selected node, and back from their status to the set's.

Law of this package: `chain.expand` says what there should be, `chain.status` what to say of it; here is only gathering, the difference,
and its writing. A set that nothing happened to costs nothing.
"""
