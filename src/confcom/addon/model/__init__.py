"""What the other packages share: the chart's objects, nodes and resources, and problems with their grouping. Pure."""
