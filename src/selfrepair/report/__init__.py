"""Report, explorer, tables, macros and the typeset paper."""
