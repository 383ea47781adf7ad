//! The volume_suite.
