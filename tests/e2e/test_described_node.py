"""What is read from the output of `kubectl describe node`."""

from e2e.described_node import DescribedNode

TEXT = """Name:               confcom-node-2
Capacity:
  cpu:                2
  example.com/epc:    60
Allocatable:
  cpu:                2
  example.com/epc:    56
  example.com/many:   100k
System Info:
  Kernel Version:  6.18
Allocated resources:
  (Total limits may be over 100 percent, i.e., overcommitted.)
  Resource            Requests   Limits
  --------            --------   ------
  cpu                 60m (3%)   0 (0%)
  example.com/epc     46         46
Events:               <none>
"""


def test_amounts_of_both_tables():
    node = DescribedNode.read(TEXT)
    assert (node.allocatable("example.com/epc"), node.requested("example.com/epc")) == (56, 46)
    assert (node.allocatable("example.com/many"), node.requested("example.com/many")) == (100_000, 0)
    assert node.allocatable("example.com/other") == 0
