//! Log groups and streams on disk: capture, START/END/REPORT lines, queries, tail
