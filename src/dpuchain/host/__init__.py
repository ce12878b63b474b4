"""The process of the host cluster: carries what operators write to the DPU clusters, and brings back what became of it.

Law of this package: `chain.project` says what belongs where, `chain.release` what is installed, `chain.status` what to say of it; here is
gathering, the difference, and its writing. One DPU cluster that is away delays nothing in the others, and is never taken for empty.
"""
