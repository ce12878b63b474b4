"""From the switches of chains to the flows of a bridge: declared, compiled, compared and simulated.

Law of this package: pure functions over immutable values. Tables, edges, registers, priorities and the cookie are declared once, in
`pipeline`; a wrong declaration fails at import. Flows here know no wire format and no library: `dpuchain.ovs` carries them to a switch
and back. The page `docs/pipeline.md` is generated from the declaration (`python -m dpuchain.flows.document`).
"""
