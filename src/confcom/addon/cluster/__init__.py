"""Access to a cluster by the programs kubectl and helm, which run here and nowhere else.

The readers (`*_reader`, `installed_release`) return the objects of the pure packages. Only this package and
`operations` may do I/O.
"""
