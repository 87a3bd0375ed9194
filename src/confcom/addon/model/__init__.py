"""What the other packages of the add-on share: the chart's objects, nodes and resources, and grouped problems.

Pure, and imports none of the others.
"""
