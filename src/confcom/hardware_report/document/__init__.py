"""The report as a document: its sections, fields and findings, their meanings, the redaction, text and JSON.

Pure: data in, a document out. It knows no node and no cluster.
"""
