"""The report's sections, each made from what was read: contents of files, CPUID leaves, a quote.

Pure: texts and bytes in, a section out. The modules beside this package read the node.
"""
