"""dpuchain: service function chaining for DPUs.

Three pure maps lead from what an operator writes to what a switch does (`chain.project`, `chain.expand`, `flows.compile`), and one leads
back (`chain.status`). Every process gathers the world, calls them, and writes the difference; see `docs/architecture.md`.
"""
