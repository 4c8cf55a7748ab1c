"""How well a judge agrees with gold labels, with itself and with other judges: pure functions of columns.

Floor 3. Nothing here reads a file, knows a model or prints; numpy is loaded with these modules, never before.
"""
