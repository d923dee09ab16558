"""XEP-0227 Portable Import/Export Format for XMPP-IM Servers, version 1.1: a domain leaves as a document, or arrives.

| What | File |
|---|---|
| accounts and what modules have of them, as a document | exporting.py |
| a document as it comes in, bounded | reader.py, pieces.py |
| one that is split into files | inclusion.py |
| addresses of a domain that gets another name | renaming.py |
| SCRAM credentials | credentials.py |
| taking a document over, an account at a time | importing.py, report.py |

What modules contribute and take is theirs: `exported` and `import_element` of `dynxmpp.module.Module`.
"""
