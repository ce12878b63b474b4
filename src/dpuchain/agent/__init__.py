"""The process on every DPU: makes ports and flows what the node's objects ask for, wires pods, and says Ready from what it reads back.

Law of this package: observe, let the core decide, act through one door, observe again. The switch comes first: no write to the API server
is waited for before packets pass. What belongs to nobody here is never touched, and nothing is removed as long as it is not known what is
wanted.

An agent keeps nothing on disk: what it would have to remember stands in the switch, where cookies and `external_ids` say whose a flow or a
port is and which round of ours made it. So a first start, a restart, an upgrade, and a start after the DPU was rebooted are one algorithm:
1. Ask OVSDB, the flow tables and the kernel to be told of changes, and only then read: what changes in between is told, and looked at.
2. List the node's objects. Until all of them are known nothing is written: what is there forwards on, and an object that could not be read
   must not be taken for one that is gone.
3. Look at the ports. One that bears a mark of ours keeps its number, since flows name it; marks of another round are written anew in place.
   What is missing is made, with the number that was asked for before (`ofport_request`).
4. Compile, and read every flow under our cookie, of whichever round. The difference goes in one bundle, so each frame meets the tables of
   before or those of after. What is right is not touched: frames, counters and what switches have learned stay. What an earlier agent left
   for a chain that is gone goes. Flows of another round go all at once, whatever they are, as tables may mean something else by now.
5. Read back what was changed. Only now anything is Ready, for that is the evidence.
6. Remove ports that nobody wants, last, since no flow names them any more.
7. Go on with 3 whenever something is told. That is also what happens when ovs-vswitchd comes back without flows: its socket is looked for
   every few milliseconds, and the objects are known already, so the API server is not needed.
Whoever dies between two of these leaves a switch that the next run finds by 1 to 3. The CNI's socket takes the place of the old one as soon
as the process runs; a call that comes before 2 is told to try again.
"""
