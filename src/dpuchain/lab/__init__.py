"""A rack of virtual DPUs on one machine: real control planes, kubelets, Multus and Open vSwitch, no part of them imitated.

Laws of this package:
- One supervisor owns every process of a rack, by pid; what dies unasked is reported with the end of its log.
- Everything that a rack makes (processes, namespaces, links, mounts, cgroups, files) is named after the rack, so that racks do not
  disturb each other and whatever is left of a killed one can be found and removed.
- Readiness is asked of the part itself; nothing sleeps for a time that was thought long enough.
- What the machine lacks is said in one line with its remedy (`errors.LabError`).
"""
