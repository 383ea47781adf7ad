//! The disk_suite.
