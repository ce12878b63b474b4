"""The kinds of dpuchain as typed values, and the words that its API consists of.

Law of this package: it says what objects look like and what they are called, never what to do with them. No I/O, no clock, no chance.
The custom resource definitions under `deploy/crds` are generated from the structs here (`python -m tools.generate_crds`), so that field,
validation, default and description exist once. Facts of compatibility are those of DPF's `svc.dpu.nvidia.com/v1alpha1`.
"""
